"""Speed and memory of steps and of the data path, against named peers."""
