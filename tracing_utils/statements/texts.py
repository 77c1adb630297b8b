"""What a text is made of and which texts are nearly the same, in scripts with and without spaces between words.

Rule: texts are compared in one normal form of Unicode; where spaces do not part words, signs and pairs of signs stand for them.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import combinations

import numpy as np

__all__ = ["WORD", "near_duplicates", "same_text", "words"]

# Thai to Tibetan, Myanmar, Khmer, Tai, Balinese, Javanese, kana, Han, Yi.
_UNSPACED = (
    "\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\ua4cf\ua980-\ua9df\ua9e0-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Signs upon letters, which Python's \w leaves out: accents, Hebrew and Arabic vowels, those of India.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"

WORD = rf"[{_UNSPACED}]|(?:[^\W{_UNSPACED}]|[{_MARKS}])+"
"""A word as a pattern; of a script without spaces, one sign."""

_NEAR = 16, 25  # the square of the least cosine, 0.8, as a fraction
_RARE = 30  # a word that at most so many texts hold is looked up; what is commoner is compared by kinds of texts
_MOST_SPARE = {3: 12, 2: 60}  # words that near texts need not share, for triples and for pairs of words to be looked up
_AT_ONCE = 500  # rows of similarities
_CROWDED = 30  # texts with a column in common, from which on not all of them are compared at once
_MOST_TRIED = 100  # others that each text of a crowded column is compared with first


def words(text: str) -> list[str]:
    """Return the words of a text; of a script without spaces, its signs and its pairs of neighbours."""
    return re.findall(WORD, text) + re.findall(rf"(?=([{_UNSPACED}]{{2}}))", text)


def same_text(statements: Sequence[str]) -> list[str]:
    """Return the texts without differences of case, spaces and the forms in which Unicode writes one letter."""
    folded = (unicodedata.normalize("NFD", statement).casefold() for statement in statements)
    return [re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip() for text in folded]


def near_duplicates(statements: Sequence[str]) -> list[str]:
    """Return the group of each statement: texts are bound whose sets of words have a cosine of at least 0.8.

    What is near to a common third is bound too, so groups may hold members that are not near to each other. Few pairs are
    compared: near texts share a rare word, or some of their rarest common ones, or are of one kind: equal but for rare words.
    """
    held = _Held(same_text(statements))
    bound = np.concatenate([held.sharing_rare_words(), held.alike_in_common_words()], axis=1)
    return [f"text {group}" for group in _components(bound, len(statements))]


class _Held:
    """Which words each text holds, from the rarest to the commonest."""

    def __init__(self, texts: Sequence[str]):
        # Each process of a run reads statements, and few look for duplicates: a second of imports each.
        from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415

        marks = re.compile(rf"[^\w\s{_UNSPACED}{_MARKS}]+")
        counts = CountVectorizer(binary=True, analyzer=lambda text: words(text) + marks.findall(text)).fit_transform(texts)
        order = np.argsort(holding := counts.getnnz(0), kind="stable")
        self.every = counts[:, order].astype(np.int32)
        self.every.sort_indices()
        self.sizes = self.every.getnnz(1).astype(np.int64)
        rare = np.searchsorted(holding[order], _RARE, side="right")
        once = np.searchsorted(holding[order], 1, side="right")
        self.rare, self.common = self.every[:, once:rare], self.every[:, rare:]
        signs = np.zeros((len(texts), 256), dtype=bool)
        signs[np.repeat(np.arange(len(texts)), self.sizes), self.every.indices % 256] = True
        self.signature = np.packbits(signs, axis=1).view(np.uint64)

    def near(self, left: np.ndarray, right: np.ndarray, of) -> np.ndarray:
        """Return which pairs of texts are near by the words of the matrix `of`, all of them or the common ones."""
        least = _NEAR[0] * self.sizes[left] * self.sizes[right]
        apart = np.bitwise_count(self.signature[left] ^ self.signature[right]).sum(1, dtype=np.int64)  # at least so many words
        are_near = _NEAR[1] * (self.sizes[left] + self.sizes[right] - apart) ** 2 >= 4 * least
        for some in np.array_split(np.flatnonzero(are_near), max(1, are_near.sum() // 50_000)):
            shared = np.asarray(of[left[some]].multiply(of[right[some]]).sum(1), dtype=np.int64).ravel()
            are_near[some] = _NEAR[1] * shared**2 >= least[some]
        return are_near

    def sharing_rare_words(self) -> np.ndarray:
        """Return the near pairs among those that share a rare word."""
        return self._pairs(self.rare, np.arange(len(self.sizes)), self.every)

    def alike_in_common_words(self) -> np.ndarray:
        """Return pairs that bind what is near by its common words alone.

        Texts of one kind have the same common words, and as many rare ones. A kind that is near to itself or to another is
        bound whole, since each of its texts is near to each of the other's.
        """
        starts, known = self.common.indptr, self.common.getnnz(1).astype(np.int64)
        needed = -(-_NEAR[0] * self.sizes // _NEAR[1])  # a near text shares so many words, whatever its length
        texts = np.flatnonzero((known >= needed) & (self.sizes > 0))
        kinds: dict[tuple[int, bytes], int] = {}
        first = np.array(
            [kinds.setdefault((self.sizes[i], self.common.indices[starts[i] : starts[i + 1]].tobytes()), i) for i in texts],
            dtype=np.int64,
        )
        members = np.unique(first)
        pairs = self._pairs(self._rarest_together(members, (known - needed)[members]), members, self.common)
        alone = members[_NEAR[1] * known[members] ** 2 >= _NEAR[0] * self.sizes[members] ** 2]
        inside = np.isin(first, np.concatenate([*pairs, alone]))
        return np.concatenate([pairs, [texts[inside], first[inside]]], axis=1)

    def _rarest_together(self, texts: np.ndarray, spare: np.ndarray):
        """Return which texts hold which words together: near texts share some of these, all but `spare` of their common words.

        Of the `spare` + k rarest words near texts share k, if they share so many: the fewer texts hold k words together, the
        fewer are compared. Texts of many words have too many triples, or pairs, and texts of three words may share two.
        """
        from scipy.sparse import csr_array  # noqa: PLC0415 - as above

        most, width = spare.max(initial=0), self.common.shape[1]
        k = 3 if most <= _MOST_SPARE[3] and self.sizes[texts].min(initial=4) > 3 else 2 if most <= _MOST_SPARE[2] else 1
        lengths = np.minimum(spare + k, self.common.getnnz(1)[texts])
        rows, keys = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for length in np.unique(lengths[lengths >= k]):
            alike, together = np.flatnonzero(lengths == length), np.array(list(combinations(range(length), k)))
            rarest = self.common.indices[self.common.indptr[texts[alike], None] + np.arange(length)].astype(np.int64)
            keys.append((rarest[:, together] @ width ** np.arange(k)).ravel())
            rows.append(np.repeat(alike, len(together)))
        unique, places = np.unique(np.concatenate(keys), return_inverse=True)
        held = np.ones(len(places), dtype=np.int32)
        return csr_array((held, (np.concatenate(rows), places)), shape=(len(texts), len(unique) or 1))

    def _pairs(self, held, texts: np.ndarray, of) -> np.ndarray:
        """Return near pairs of `texts` whose rows of `held` share a column: as many as bind what all such pairs bind.

        Where many texts share a column, each is first compared with a few of them. Most are bound by that, and only those that
        are not bound to most of their column are compared with all of it.
        """
        crowded = np.bincount(held.indices, minlength=held.shape[1]) > _CROWDED
        shared = held[:, crowded].tocsc()
        pairs = [self._neighbours(shared, texts, of)]
        bound = _components(pairs[0], len(self.sizes))[texts]
        alone = held[:, ~crowded]
        for left_of, right_of, both in ((alone, alone, False), (_outside(shared, bound), shared.tocsr(), True)):
            rows = np.flatnonzero(np.diff(left_of.indptr))
            for some in np.array_split(rows, -(-len(rows) // _AT_ONCE) or 1):
                left, right = (left_of[some] @ right_of.T).nonzero()
                left = some[left]
                new = (bound[left] != bound[right]) & (both | (left < right))
                left, right = texts[left[new]], texts[right[new]]
                pairs.append(np.stack([left, right])[:, self.near(left, right, of)])
        return np.concatenate(pairs, axis=1)

    def _neighbours(self, shared, texts: np.ndarray, of) -> np.ndarray:
        """Return near pairs among those that stand some places from each other in a column, as long as they bind many."""
        column = np.repeat(np.arange(shared.shape[1]), np.diff(shared.indptr))
        pairs, bound = np.zeros((2, 0), dtype=np.int64), np.arange(len(self.sizes))
        for apart in range(1, _MOST_TRIED):
            together = np.flatnonzero(column[apart:] == column[:-apart])
            left, right = texts[shared.indices[together]], texts[shared.indices[together + apart]]
            left, right = (side[bound[left] != bound[right]] for side in (left, right))
            near = self.near(left, right, of)
            pairs = np.concatenate([pairs, [left[near], right[near]]], axis=1)
            if near.sum() < len(texts) / 100:
                break
            bound = _components(pairs, len(bound))
        return pairs


def _components(pairs: np.ndarray, n: int) -> np.ndarray:
    """Return for each of `n` texts a number that all have which are bound with it."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - as above
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    left, right = pairs
    return connected_components(csr_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(n, n)), directed=False)[1]


def _outside(shared, bound: np.ndarray):
    """Return a matrix without the entries of those texts that are bound to most others of their column."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - as above

    column = np.repeat(np.arange(shared.shape[1]), np.diff(shared.indptr))
    kinds, kind, count = np.unique(column * (len(bound) + 1) + bound[shared.indices], return_inverse=True, return_counts=True)
    order = np.lexsort((count, kinds // (len(bound) + 1)))
    of_column = kinds[order] // (len(bound) + 1)
    largest = np.zeros(len(kinds), dtype=bool)
    largest[order[np.flatnonzero(np.diff(of_column, append=-1))]] = True
    outside = ~largest[kind]
    return csr_array((shared.data[outside], (shared.indices[outside], column[outside])), shape=shared.shape)
