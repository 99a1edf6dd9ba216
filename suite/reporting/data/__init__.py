"""What a report draws from: records as a frame, groups and points, and the sentences about them."""
