"""The document: its words, how it is read and what makes it valid. Does no input or output."""
