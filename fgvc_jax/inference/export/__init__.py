"""What an export is in each format: a folder that answers for images without this project."""
