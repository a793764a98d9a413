"""The Python interface: what `import clbench` offers, over the same functions as the command line."""
