"""Every data set, where it is found, and what of it is learned from and measured on."""
