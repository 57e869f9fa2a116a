"""A 5-gram model with modified Kneser-Ney smoothing (Chen and Goodman, 1998): what the text's perplexity is held
against. A token has 12 bits, so five fit into one 64-bit key and counting is sorting."""
import numpy as np

ORDER, BITS = 5, 12


def _keys(ids, n):
    ids = ids.astype(np.int64)
    key = np.zeros(len(ids) - n + 1, np.int64)
    for i in range(n):
        key = (key << BITS) | ids[i : len(ids) - n + 1 + i]
    return key


class Order:
    """Discounted counts of one order, and of every context its sum and the mass left for the order below."""

    def __init__(self, keys, counts):
        self.keys, self.counts = keys, counts
        of = [max(1, int((counts == i).sum())) for i in range(1, 5)]
        y = of[0] / (of[0] + 2 * of[1])
        discounts = np.array([0] + [i - (i + 1) * y * of[i] / of[i - 1] for i in (1, 2, 3)])
        self.discount = np.clip(discounts, 0.05, None)[np.minimum(counts, 3)]
        self.contexts, start = np.unique(keys >> BITS, return_index=True)
        self.total = np.add.reduceat(counts, start)
        self.left = np.add.reduceat(self.discount, start) / self.total

    def probability(self, keys, below):
        at = np.minimum(np.searchsorted(self.contexts, keys >> BITS), len(self.contexts) - 1)
        known = self.contexts[at] == keys >> BITS
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        seen = self.keys[place] == keys
        own = np.where(seen, self.counts[place] - self.discount[place], 0) / self.total[at]
        return np.where(known, own + self.left[at] * below, below)


class Ngram:
    def __init__(self, ids, vocab):
        self.vocab, self.orders = vocab, [None] * (ORDER + 1)
        keys, counts = np.unique(_keys(ids, ORDER), return_counts=True)
        for n in range(ORDER, 0, -1):
            self.orders[n] = Order(keys, counts)
            if n > 1:  # below: in how many different contexts, not how often
                keys, counts = np.unique(keys & ((1 << BITS * (n - 1)) - 1), return_counts=True)

    def negative_log_likelihood(self, ids):
        """Of every token but the first, in nats."""
        p = np.full(len(ids) - 1, 1 / self.vocab)
        for n in range(1, ORDER + 1):
            keys = _keys(ids, n)[1 if n == 1 else 0 :]
            p[max(0, n - 2) :] = self.orders[n].probability(keys, p[max(0, n - 2) :])
        return -np.log(p)
