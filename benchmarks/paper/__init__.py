"""The experiments of the deep image prior's papers, ours beside theirs; a script for each, see README.md."""
