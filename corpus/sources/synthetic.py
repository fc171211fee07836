"""placeholder"""
def scan(root): return iter(())
def load(root, clip, options): raise NotImplementedError
