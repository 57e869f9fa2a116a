"""Random choices, split by content: a pair such as (name, value) belongs either to training or to the held-out
part, by a hash, so that no held-out fact was ever seen in training."""
import random
import zlib

HELD_OUT_ONE_IN = 8


class NothingLeft(Exception):
    """All of a small choice belongs to the other part; the caller makes another instance."""


class Source:
    def __init__(self, seed, held_out=False):
        self.random = random.Random(f"{'held out' if held_out else 'training'} {seed}")
        self.held_out = held_out
        self.choice, self.randint, self.sample, self.shuffle = (
            self.random.choice,
            self.random.randint,
            self.random.sample,
            self.random.shuffle,
        )

    def chance(self, p):
        return self.random.random() < p

    def mine(self, *content):
        held = zlib.crc32("|".join(map(str, content)).encode()) % HELD_OUT_ONE_IN == 0
        return held == self.held_out

    def draw(self, make):
        """Calls make() until its result, a tuple, belongs to this part."""
        for _ in range(100):
            content = make()
            if self.mine(*content):
                return content
        raise NothingLeft

    def code(self):
        """Something nobody can guess: 4821, KX-482, blue-otter-17."""
        kind = self.randint(0, 3)
        if kind == 0:
            return str(self.randint(10 ** self.randint(1, 4), 99999))
        if kind == 1:
            letters = "".join(self.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.randint(1, 3)))
            return f"{letters}-{self.randint(10, 999)}"
        from tasks import words

        if kind == 2:
            return f"{self.choice(words.COLOURS)}-{self.choice(words.ANIMALS)}-{self.randint(1, 99)}"
        return self.choice(words.THINGS) + " " + self.choice(words.ANIMALS)
