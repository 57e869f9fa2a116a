"""Seeded generators of conversations with checkable answers.

Each task is a function of a Source and a size in tokens it may use, and returns a conversation: messages and,
for every turn of the assistant, a check. Training and held-out instances differ by seed and by content.
"""
