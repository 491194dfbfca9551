"""The assistant in the browser: `make app`. Text of documents is shown as text, never as HTML or Markdown."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from stages.assistant import explain, pdf
from stages.assistant.assistant import Assistant, Response
from stages.assistant.explain import Drop
from stages.assistant.index import Changes
from stages.assistant.library import keep_upload
from stages.assistant.map import FEWEST, NEIGHBOURS, Map
from stages.assistant.search import Found, Hit
from stages.assistant.settings import load
from stages.errors import InputError

SETTINGS = Path("assistant.yaml")
SOURCES = {"Papers": "paper", "Docs of the project": "docs", "Results of the study": "results"}
SENTENCES, TERMS, INSTEAD, PAGE = "Sentences (heat map)", "Terms", "Why not the next", "The page"
EXPLANATIONS = [SENTENCES, TERMS, INSTEAD, PAGE]
LINKED = re.compile(r"www(?=\.)|https?(?=:)|(?=@)", re.IGNORECASE)
STRONGEST = 0.5  # opacity of a full colour: with more, text on it is hard to read in the dark theme
BY_VERSION = {Assistant: lambda assistant: assistant.version}  # what is cached is of the index as it was


def main() -> None:
    """Draw the page, or in a line why it cannot be drawn."""
    st.set_page_config("Ask the papers and the study", layout="wide")
    st.title("Ask the papers and the study")
    try:
        draw()
    except InputError as error:
        st.error(plain(str(error)))


def draw() -> None:
    """Draw what is asked for in the side bar, the question, and what was found."""
    settings = load(SETTINGS)
    with st.form("question", border=False):
        question = st.text_input("Question", placeholder="Which criterion keeps melanoma recall best at half the MACs?")
        st.form_submit_button("Ask", type="primary")
    assistant, lines = opened(repr(settings))
    changes = brought_up_to_date(assistant)
    shown, kinds, explanations = side_bar(assistant, changes, lines)
    if not assistant.search.passages:
        st.info("Nothing is indexed yet: put PDFs into the folder papers, or upload some in the side bar.")
    elif question.strip() and not kinds:
        st.warning("Choose at least one kind of source in the side bar.")
    elif question.strip():
        with st.spinner("Searching"):
            response = answered(assistant, question.strip(), shown, kinds)
        show_answer(response)
        show_passages(assistant, response, explanations)
        show_map(assistant, response)


@st.cache_resource(show_spinner="Opening the index", max_entries=1)
def opened(settings: str) -> tuple[Assistant, list[str]]:
    """Return the assistant of all sessions, another where `settings` changed, and what it says of them."""
    lines: list[str] = []
    return Assistant(Path.cwd(), load(SETTINGS), lines.append), lines


def brought_up_to_date(assistant: Assistant) -> Changes:
    """Read what is new or changed, once a session, after each upload and where the settings have changed."""
    of, changes = st.session_state.get("changes", (None, None))
    if of is not assistant:
        bar = st.progress(0.0, "Looking for new and changed sources")
        changes = assistant.update(lambda path, share: bar.progress(share, f"Reading {plain(path)}"))
        bar.empty()
        st.session_state.changes = assistant, changes
    return changes


@st.cache_data(show_spinner=False, max_entries=50, hash_funcs=BY_VERSION)
def answered(assistant: Assistant, question: str, shown: int, kinds: Sequence[str]) -> Response:
    """Return the response to a question; the same again is not searched again."""
    return assistant.ask(question, shown, kinds)


def side_bar(assistant: Assistant, changes: Changes, lines: list[str]) -> tuple[int, list[str], list[str]]:
    """Draw the side bar; return how many passages, which kinds of sources and which explanations are wanted."""
    with st.sidebar:
        shown = st.slider("Passages", 3, 10, assistant.settings.passages)
        names = st.multiselect("Sources", list(SOURCES), default=list(SOURCES))
        explanations = st.multiselect("Explanations", EXPLANATIONS, default=EXPLANATIONS)
        upload(assistant)
        st.text(f"{len(assistant.index.documents)} documents, {len(assistant.search.passages)} passages")
        model = assistant.settings.language_model
        st.text(f"Answers are {'written by ' + model.model if model else 'quoted, word for word'}.")
        for line in lines:
            st.warning(plain(line))
        for path, why in changes.refused:
            st.warning(f"{plain(path)}: {plain(why)}; left out")
        for path, other in changes.same:
            st.text(f"{path} has the same content as {other}")
    return shown, [SOURCES[name] for name in names], explanations


def upload(assistant: Assistant) -> None:
    """Let PDFs be added to the folder of papers, and say in a line why one was not."""
    with st.form("upload", clear_on_submit=True, border=False):
        label = f"Add PDFs (at most {pdf.MAX_BYTES >> 20} MiB each)"
        st.file_uploader(label, "pdf", accept_multiple_files=True, key="files", max_upload_size=pdf.MAX_BYTES >> 20)
        st.form_submit_button("Add", on_click=keep_uploads, args=[assistant.papers])
    for line in st.session_state.pop("not_kept", []):
        st.error(plain(line))


def keep_uploads(papers: Path) -> None:
    """Keep the uploads that can be read, to be indexed when the page is drawn next."""
    for file in st.session_state.files:
        try:
            keep_upload(papers, file.name, file.getvalue())
        except InputError as error:
            st.session_state.setdefault("not_kept", []).append(str(error))
        else:
            st.session_state.pop("changes", None)


def show_answer(response: Response) -> None:
    """Draw what answers the question: claims of a language model, else quotes, else that there is none."""
    st.subheader("Answer")
    if response.trouble:
        st.warning(f"The language model does not answer: {plain(response.trouble)}. Quoted instead:")
    if response.claims:
        for claim in response.claims:
            marks = "".join(f"[{number}]" for number in claim.citations)
            st.text(f"{claim.text} {marks}" + (f"   ⚠ unsupported: {claim.why}" if claim.why else ""))
    elif response.claims is not None or not response.answer.quotes:
        st.info("Not in the sources. The nearest passages are below, but none of them answers.")
    else:
        for quote in response.answer.quotes:
            passage = response.found.shown[quote.passage - 1].passage
            st.text(f"“{quote.sentence.text}”")
            st.text(f"[{quote.passage}] {passage.source}, {quote.sentence.place}")


def show_passages(assistant: Assistant, response: Response, explanations: Sequence[str]) -> None:
    """Draw the passages one below the other, at once as text, then one by one with their explanations."""
    st.subheader("Passages, and why they were found")
    bar, shown, places = st.empty(), response.found.shown, []
    for number, hit in enumerate(shown, 1):
        label = f"[{number}] {plain(hit.passage.source)}, {plain(hit.passage.places)} · cosine {hit.cosine:.3f}"
        with st.expander(label, expanded=number == 1):
            ranks = f"by meaning {hit.dense_rank} (cosine {hit.cosine:.3f})"
            ranks += f", by terms {hit.bm25_rank or '—'} (BM25 {hit.bm25:.2f})"
            st.text(f"{hit.passage.title}. Rank {hit.fused_rank}: {ranks}, fused {hit.fused:.4f}")
            places.append(st.empty())
            places[-1].text(hit.passage.text)
    if not explanations:
        return
    for number, place in enumerate(places, 1):
        bar.progress((number - 1) / len(places), f"Explaining {number} of {len(places)}")
        with place.container():
            show_why(assistant, response, number, explanations)
    bar.empty()


def show_why(assistant: Assistant, response: Response, number: int, explanations: Sequence[str]) -> None:
    """Draw a passage, the 1-based `number` of those shown, with the explanations that are wanted."""
    found = response.found
    hit, after = found.shown[number - 1], found.shown[number : number + 1]
    if SENTENCES in explanations:
        st.html(heat_map(drops(assistant, found.question, hit.at, found, hit)))
    else:
        st.text(hit.passage.text)
    if TERMS in explanations:
        show_terms(assistant, response, hit)
    if INSTEAD in explanations and after:
        st.text(f"Before [{number + 1}], since {explain.instead_of(assistant.search, found, hit, after[0])}.")
    if PAGE in explanations:
        show_page(assistant.root, hit)


@st.cache_data(show_spinner=False, max_entries=200, hash_funcs=BY_VERSION)
def drops(assistant: Assistant, question: str, at: int, _found: Found, _hit: Hit) -> list[Drop]:
    """Return what a passage, the one `at` a place of the index, loses without each sentence; kept, since it is slow."""
    return explain.without_each_sentence(assistant.search, _found, _hit)


def heat_map(drops: Sequence[Drop]) -> str:
    """Return the sentences as HTML, escaped, each on the colour of how much the passage's cosine falls without it."""
    spans = []
    for drop in drops:
        colour = "255, 160, 0" if drop.cosine > 0 else "60, 130, 255"
        strength = STRONGEST * min(1.0, abs(drop.cosine) / explain.FULL)
        spans.append(
            f'<span style="background: rgba({colour}, {strength:.2f}); border-radius: 3px; padding: 1px 2px" '
            f'title="BM25 {-drop.bm25:+.2f} without it">{html.escape(drop.sentence)}'
            f"<sup>{-drop.cosine:+.3f}</sup></span>"
        )
    bar = (
        f"linear-gradient(to right, rgba(60, 130, 255, {STRONGEST}), rgba(0, 0, 0, 0), rgba(255, 160, 0, {STRONGEST}))"
    )
    legend = (
        '<div style="display: flex; gap: .5em; font-size: .8em; margin-top: .6em">without it the cosine changes by '
        f'<span>+{explain.FULL} or more</span><span style="background: {bar}; flex: 0 0 10em"></span>'
        f"<span>-{explain.FULL} or less</span></div>"
    )
    return f'<div style="line-height: 1.7">{" ".join(spans)}</div>{legend}'


def show_terms(assistant: Assistant, response: Response, hit: Hit) -> None:
    """Draw what each word of the question adds to BM25, and pairs of words that mean the same."""
    shares = explain.by_term(assistant.search, response.found, hit)
    pairs = explain.across(assistant.search, response.found, hit, list(shares))
    if shares:
        st.text("BM25 by term: " + ", ".join(f"{word} {share:.2f}" for word, share in shares.items()))
    if pairs:
        st.text("Words that meet: " + ", ".join(f"{pair.asked} ≈ {pair.found} ({pair.cosine:.2f})" for pair in pairs))
    if not shares and not pairs:
        st.text("No word of the question is in the passage: it was found by its meaning alone.")


def show_page(root: Path, hit: Hit) -> None:
    """Draw the page that a passage of a PDF begins on, the passage marked."""
    boxes = [box for sentence in hit.passage.sentences for box in sentence.boxes]
    if boxes:
        page = boxes[0].page
        with st.container(width=640):
            st.text(f"Page {page}")
            try:
                st.image(pdf.picture(root / hit.passage.source, page, boxes), width="stretch")
            except (ValueError, OSError) as error:  # gone or changed since it was read
                st.warning(f"The page cannot be drawn: {plain(str(error))}")


@st.fragment  # else the passages were explained again
def show_map(assistant: Assistant, response: Response) -> None:
    """Draw all passages on a plane, when asked: laying them out takes half a minute the first time."""
    st.subheader("Map of all passages")
    if not st.toggle("Draw it (half a minute the first time)"):
        return
    if len(assistant.search.passages) < FEWEST:
        st.info(f"Too few passages for a map: it takes {FEWEST}.")
        return
    with st.spinner("Laying out"):
        laid_out = mapped(assistant)
    st.plotly_chart(laid_out.figure(response.found))
    st.text(
        f"Each dot is a passage, the star the question, lines join it to its true neighbours by cosine. On this map "
        f"distances mislead: its trustworthiness is {laid_out.trust:.2f} (of 1; Venna and Kaski 2001, {NEIGHBOURS} "
        "neighbours)."
    )


@st.cache_resource(show_spinner=False, max_entries=2, hash_funcs=BY_VERSION)
def mapped(assistant: Assistant) -> Map:
    """Return the map of the index as it is."""
    return Map(assistant.search)


def plain(text: str) -> str:
    """Return text with what Markdown would take for its own escaped, and addresses broken, unseen, which it links."""
    text = LINKED.sub("\\g<0>\N{WORD JOINER}", text)
    return "".join(f"\\{character}" if character in r"\`*_{}[]()#+-.!|<>~:$&" else character for character in text)


if __name__ == "__main__":
    main()
