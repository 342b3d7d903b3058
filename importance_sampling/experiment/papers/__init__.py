"""The programs of the original's papers: faces of LFW, and animations of text files."""
