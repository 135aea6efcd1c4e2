"""What a stranger's bundle would import and call, told by reading alone: nothing is run, imported or loaded."""
