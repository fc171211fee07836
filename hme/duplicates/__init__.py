"""Find the same motion twice: from moments worth remembering to verified pairs and who is kept."""
