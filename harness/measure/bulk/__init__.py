"""A bulk run: all images of a data set, cut into blocks that several workers answer, each image once."""
