"""What is looked at: images, characters and training sets, as page, command line and programs see them."""
