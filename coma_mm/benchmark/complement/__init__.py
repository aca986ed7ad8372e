"""The study of complementary masks: does it teach more that the second mask is the complement of the first?"""
