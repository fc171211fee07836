"""What stands behind `corpus.loader`: what is drawn, where its frames lie, and the kernel that weaves them."""
