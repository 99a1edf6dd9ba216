"""What a report draws from: records as a frame, groups and points, and what is said of them in words."""
