"""Answers drawn: figures and one self-contained page; nothing is computed here that is not asked of another room."""
