"""What runs before training: checking data sets, packing images, drawing CoMA-Shapes."""
