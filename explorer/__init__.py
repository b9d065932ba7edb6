"""Find out which parts of a decoder language model could go, and write the smaller checkpoint.

    load -> tokenize -> measure | score | generate -> export

Each arrow is one function.
"""
