"""The data sets: where they are found, how they are read, and how they are split into training and test."""
