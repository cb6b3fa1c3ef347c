"""What an image generator makes of the same prompt for different groups of people, with tests and intervals."""
