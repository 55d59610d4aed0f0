"""Reviews of any source as texts and labels in three splits."""
