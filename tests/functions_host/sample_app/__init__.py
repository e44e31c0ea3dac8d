"""A function app with one function for each pattern; the tests run it as a folder of its own."""
