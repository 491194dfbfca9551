"""All passages on a plane: UMAP of their vectors, the question among them, and how far to trust it."""

import html
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from stages.assistant.passages import Passage
from stages.assistant.search import Found, Search

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NEIGHBOURS = 10
FEWEST = 2 * NEIGHBOURS + 1  # passages of which a map is made: with fewer, trustworthiness is not defined
COLOURS = {"paper": "#4a86e8", "docs": "#26a69a", "results": "#ab6fd1"}  # seen on white and on black


class Map:
    """A layout of the passages of an index (McInnes et al. 2018), by the cosine of their vectors, with a fixed seed."""

    def __init__(self, search: Search):
        from sklearn.manifold import trustworthiness
        from umap import UMAP

        self._search = search
        self._umap = UMAP(n_neighbors=NEIGHBOURS, min_dist=0.1, metric="cosine", random_state=42, n_jobs=1)
        self.positions = self._umap.fit_transform(search.vectors)
        self.trust = float(trustworthiness(search.vectors, self.positions, n_neighbors=NEIGHBOURS, metric="cosine"))

    def place(self, vector: np.ndarray) -> np.ndarray:
        """Return where a question stands, (2,)."""
        return self._umap.transform(vector[None])[0]

    def figure(self, found: Found) -> "Figure":
        """Return the plane with all passages, those shown, the question, and lines to its true neighbours."""
        from plotly.graph_objects import Figure

        kinds = np.array([passage.kind for passage in self._search.passages])
        texts = [_hover(passage) for passage in self._search.passages]
        shown = {hit.passage.name for hit in found.shown}  # `at` may be of the index before an update
        chosen = np.array([passage.name in shown for passage in self._search.passages])
        star = self.place(found.vector)
        figure = Figure()
        for at in np.argsort(-(self._search.vectors @ found.vector))[:NEIGHBOURS]:
            line = np.stack([star, self.positions[at]])
            figure.add_scatter(
                x=line[:, 0], y=line[:, 1], mode="lines", line={"color": "gray", "width": 1}, hoverinfo="skip",
                name="nearest by cosine", legendgroup="nearest", showlegend=False,
            )  # fmt: skip
        for name, of, marker in [
            *(
                (kind, (kinds == kind) & ~chosen, {"size": 7, "opacity": 0.7, "color": COLOURS[kind]})
                for kind in sorted(set(kinds))
            ),
            ("shown", chosen, {"size": 11, "color": "darkorange", "line": {"width": 1}}),
        ]:
            figure.add_scatter(
                x=self.positions[of, 0], y=self.positions[of, 1], mode="markers", marker=marker, name=name,
                text=[text for text, mine in zip(texts, of, strict=True) if mine], hoverinfo="text",
            )  # fmt: skip
        figure.add_scatter(
            x=star[:1], y=star[1:], mode="markers", name="the question",
            marker={"size": 17, "symbol": "star", "color": "crimson"}, text=["the question"], hoverinfo="text",
        )  # fmt: skip
        hidden = {"visible": False}
        figure.update_layout(
            xaxis=hidden, yaxis=hidden, margin={"l": 0, "r": 0, "t": 0, "b": 0}, height=520, legend={"orientation": "h"}
        )
        return figure


def _hover(passage: Passage) -> str:
    """Return what a dot says; plotly reads a few tags of HTML there, so the text is escaped."""
    start = "<br>".join(html.escape(line) for line in textwrap.wrap(passage.text[:240], 60))
    return f"{html.escape(f'{passage.source}, {passage.places}')}<br>{start}…"
