"""A small library of generated PDFs, what can be asked of it and what cannot, and files that are none.

The page of an answer is known from the layout made here, not from reading the file.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from tests.assistant.prose import PROSE

WIDTH, HEIGHT, MARGIN = 420, 595, 54  # A5, in points
COPY = "saliency-copy.pdf"  # has the bytes of saliency.pdf
SCANNED = {"mitosis.pdf": 2}  # pages that are pictures
GERMAN = {"relevanz.pdf", "haut.pdf", "reproduzierbar.pdf"}
HEADERS = {
    "pruning.pdf": "Criteria for Structured Pruning",
    "haut.pdf": "Bericht 7/2024 des Instituts",
    "concepts.pdf": "Preprint",
}
REFERENCES = [
    "[1] S.-K. Yeom et al. Pruning by explaining. Pattern Recognition, 115:107899, 2021.",
    "[2] P. Molchanov et al. Importance estimation for neural network pruning. CVPR, 2019.",
    "[3] Y. He et al. Filter pruning via geometric median. CVPR, 2019.",
]
APPENDIX = "The appendix lists the widths of all layers, and the seeds were the numbers from zero to four."
HYPHENATED = {"pruning.pdf", "concepts.pdf", "haut.pdf"}
FONT = "Serif"
pdfmetrics.registerFont(TTFont(FONT, Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSerif.ttf")))


class Question(NamedTuple):
    """A question and the one sentence that answers it. `crosses`: its language is not that of the document."""

    text: str
    language: str
    source: str
    page: int
    answer: str
    crosses: bool


class Placed(NamedTuple):
    """A line on a page, its baseline's start in points from the bottom left.

    `of` is the paragraph it is part of, and `first` the number of the first word of it that begins on this line.
    """

    page: int
    x: float
    y: float
    font: str
    size: float
    text: str
    of: str
    first: int


def write(folder: Path) -> None:
    """Write the library into a folder."""
    for name, (title, _) in PROSE.items():
        canvas = Canvas(str(folder / name), (WIDTH, HEIGHT), invariant=1)
        if name != "saliency.pdf":
            canvas.setTitle(title)
        placed = _layout(name)
        for page in range(1, placed[-1].page + 1):
            if SCANNED.get(name) == page:
                canvas.drawImage(ImageReader(_scan()), MARGIN, MARGIN, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN)
            if name in HEADERS:
                canvas.setFont("Helvetica", 8)
                canvas.drawString(MARGIN, HEIGHT - 30, HEADERS[name])
                canvas.drawCentredString(WIDTH / 2, 24, f"Seite {page}" if name in GERMAN else f"{page}")
            # row by row: where there are two columns, this interleaves them
            for line in sorted((line for line in placed if line.page == page), key=lambda line: (-line.y, line.x)):
                canvas.setFont(line.font, line.size)
                canvas.drawString(line.x, line.y, line.text.replace("fi", "ﬁ") if line.font == FONT else line.text)
            canvas.showPage()
        canvas.save()
    shutil.copy(folder / "saliency.pdf", folder / COPY)


def running_text(name: str) -> str:
    """Return what a document says, as it should be read: without headers, page numbers and references."""
    title, sections = PROSE[name]
    text = " ".join([title, *(part for heading, paragraphs in sections for part in (heading, *paragraphs))])
    return f"{text} Appendix {APPENDIX}" if name == "pruning.pdf" else text


def _layout(name: str) -> list[Placed]:
    """Lay a document out: its title over the whole width, then one column, or two for concepts.pdf."""
    title, sections = PROSE[name]
    columns, size = (2, 8) if name == "concepts.pdf" else (1, 11)
    font = FONT if name == "relevanz.pdf" else "Times-Roman"
    if font == FONT:
        size = 9.5
    gutter, pitch = 16, size * 1.3
    width = (WIDTH - 2 * MARGIN - gutter * (columns - 1)) / columns
    placed, page, column, top = [], 1, 0, HEIGHT - MARGIN - 16
    for line, _ in _wrapped(title, "Times-Bold", 16, WIDTH - 2 * MARGIN, False):
        placed.append(Placed(page, MARGIN, top, "Times-Bold", 16, line, title, 0))
        top -= 20
    top -= 12
    y = top

    def room(needed: float) -> None:
        nonlocal page, column, top, y
        if y - needed < MARGIN:
            column += 1
            if column == columns:
                page, column, top = page + 1 + (SCANNED.get(name) == page + 1), 0, HEIGHT - MARGIN - 12
            y = top

    def put(text: str, font: str, size: float, wide: float) -> None:
        nonlocal y
        for line, first in _wrapped(text, font, size, wide, name in HYPHENATED):
            room(pitch)
            placed.append(Placed(page, MARGIN + column * (width + gutter), y, font, size, line, text, first))
            y -= pitch

    for heading, paragraphs in sections:
        room(4 * pitch)
        y -= 8
        put(heading, "Times-Bold", size + 2, width)
        y -= 4
        for paragraph in paragraphs:
            put(paragraph, font, size, width)
            y -= 5
    if name == "pruning.pdf":
        for heading, paragraphs in (("References", REFERENCES), ("Appendix", [APPENDIX])):
            room(4 * pitch)
            y -= 8
            put(heading, "Times-Bold", size + 2, width)
            y -= 4
            for paragraph in paragraphs:
                put(paragraph, font, size, width)
    return placed


def _wrapped(text: str, font: str, size: float, width: float, hyphenated: bool) -> Iterator[tuple[str, int]]:
    """Yield lines of at most a width, each with the number of the first word that begins on it."""
    line, first = "", 0
    for number, word in enumerate(text.split()):
        for part, joint in _parts(word, hyphenated):
            longer = line + joint + part if line else part
            if pdfmetrics.stringWidth(longer + "-", font, size) <= width:
                line = longer
                continue
            yield line + ("" if joint else "-") * (not line.endswith("-")), first
            line, first = part, number + (not joint)
    yield line, first


def _parts(word: str, hyphenated: bool) -> list[tuple[str, str]]:
    """Return the parts that a word may be broken into, each with what stands before it on the same line."""
    if hyphenated and re.fullmatch(r"[^\W\d_]{9,}[.,]?", word):
        middle = len(word) // 2
        return [(word[:middle], " "), (word[middle:], "")]
    return [(word, " ")]


def _scan() -> Image.Image:
    picture = Image.new("L", (300, 400), 235)
    ImageDraw.Draw(picture).text((40, 60), "A page that was scanned", fill=30)
    return picture


def page_of(name: str, answer: str) -> int:
    """Return the page on which a sentence of a document begins, by the layout."""
    (paragraph,) = [each for _, paragraphs in PROSE[name][1] for each in paragraphs if answer in each]
    word = len(paragraph[: paragraph.index(answer)].split())
    return [line.page for line in _layout(name) if line.of == paragraph and line.first <= word][-1]


def encrypted(path: Path) -> None:
    """Write a PDF that needs a password."""
    canvas = Canvas(str(path), invariant=1, encrypt="secret")
    canvas.drawString(100, 700, "Nobody reads this without the password.")
    canvas.save()


def broken(path: Path) -> None:
    """Write what begins like a PDF and is none."""
    path.write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)


def empty(path: Path) -> None:
    """Write a PDF of one page with nothing on it."""
    canvas = Canvas(str(path), invariant=1)
    canvas.showPage()
    canvas.save()


def image_only(path: Path) -> None:
    """Write a PDF of one page that is a picture of text."""
    canvas = Canvas(str(path), (WIDTH, HEIGHT), invariant=1)
    canvas.drawImage(ImageReader(_scan()), 0, 0, WIDTH, HEIGHT)
    canvas.save()


def long(path: Path, pages: int = 2000) -> None:
    """Write a PDF of very many pages with a word each."""
    canvas = Canvas(str(path), (WIDTH, HEIGHT), invariant=1)
    for page in range(pages):
        canvas.drawString(MARGIN, 300, f"Page {page} of many.")
        canvas.showPage()
    canvas.save()


_ASKED = [
    # English of English
    (
        "en",
        "layerwise.pdf",
        "How can one avoid dividing by almost nothing when relevance is handed down?",
        "The epsilon rule adds a small number with the sign of the sum to the denominator, so that weak and "
        "contradictory evidence is absorbed instead of amplified.",
    ),
    (
        "en",
        "layerwise.pdf",
        "What has to be done with BN layers before LRP is run?",
        "Canonisation merges the shift and the scale into the neighbouring convolution before anything is propagated.",
    ),
    (
        "en",
        "layerwise.pdf",
        "When does an attribution method fail the sanity check with random parameters?",
        "Randomising the weights of the top layers must change the map; if it does not, the method looks at edges "
        "and not at the model.",
    ),
    (
        "en",
        "concepts.pdf",
        "How does CRP find out what a network saw and not only the location?",
        "Concept relevance propagation closes this gap by restricting the backward pass to chosen channels of a "
        "hidden layer.",
    ),
    (
        "en",
        "concepts.pdf",
        "How did the score on horse images react to disabling the unit for the copyright mark?",
        "When we switched that channel off, the accuracy on pictures with the watermark fell from 94 to 61 percent.",
    ),
    (
        "en",
        "concepts.pdf",
        "On how many units did people choose the same word for a feature?",
        "They agreed on thirty-one of the forty, and most disagreements concerned textures.",
    ),
    (
        "en",
        "pruning.pdf",
        "What makes LRP scores of separate layers directly comparable?",
        "In contrast to gradients, relevance is conserved from layer to layer, which makes the numbers of "
        "different layers comparable without rescaling.",
    ),
    (
        "en",
        "pruning.pdf",
        "Why can a whole layer vanish when one cut-off is applied to the entire network?",
        "It happens when a global threshold deletes every filter of one layer, and it cannot be repaired by training.",
    ),
    (
        "en",
        "pruning.pdf",
        "What is the idea behind selecting redundant filters with the geometric median?",
        "A filter close to the geometric median of its layer can be represented by the others and is therefore "
        "dispensable.",
    ),
    (
        "en",
        "prototypes.pdf",
        "What does the push step of ProtoPNet do with the learned vectors?",
        "Then every prototype is replaced by the nearest patch of a training picture of its own class, a step that "
        "is known as projection.",
    ),
    (
        "en",
        "prototypes.pdf",
        "By which test does one spot prototypes that show scenery and not the bird?",
        "They can be recognised by their nearest neighbours: if fewer than three of the six nearest training "
        "patches belong to the class of the prototype, it is removed.",
    ),
    (
        "en",
        "calibration.pdf",
        "How is ECE computed?",
        "The expected calibration error averages the distance between confidence and accuracy over bins, weighted "
        "by their number of samples.",
    ),
    (
        "en",
        "calibration.pdf",
        "What happened to calibration when 50 % of the channels were cut?",
        "In our measurements the calibration error doubled after half of the filters had gone, although accuracy "
        "fell by one point only.",
    ),
    (
        "en",
        "mitosis.pdf",
        "How large is the tissue area in which dividing cells are counted?",
        "Pathologists count mitotic figures in ten neighbouring high-power fields, which together cover about two "
        "square millimetres.",
    ),
    (
        "en",
        "mitosis.pdf",
        "Which scanner artefact had the patch classifier picked up?",
        "One artefact was discovered in this way: a scanner left faint compression blocks that the network had "
        "learned to use.",
    ),
    (
        "en",
        "deployment.pdf",
        "Why does my exported model only run with a single image at a time?",
        "The batch dimension must be declared dynamic, or the graph will accept only as many pictures at once as "
        "the example had.",
    ),
    (
        "en",
        "deployment.pdf",
        "How do I merge BatchNorm into the weights of the convolution before it?",
        "It can be folded into the preceding convolution by scaling each filter with gamma divided by the standard "
        "deviation and by adjusting the bias.",
    ),
    (
        "en",
        "workflows.pdf",
        "How does DVC keep big files out of the Git repository?",
        "DVC stores such files in a cache that is addressed by their checksum and commits only a small pointer file.",
    ),
    (
        "en",
        "workflows.pdf",
        "Why do two runs with the same seed differ on a GPU?",
        "Atomic additions on a graphics card are carried out in varying order, and floating-point sums depend on "
        "the order.",
    ),
    # German of German
    (
        "de",
        "haut.pdf",
        "Wie groß ist der Anteil der Nävi und der Melanome in HAM10000?",
        "Zwei Drittel davon sind gewöhnliche Leberflecke, Melanome machen nur gut elf Prozent aus.",
    ),
    (
        "de",
        "haut.pdf",
        "Wie stark hing das Ergebnis von aufgemalten Stiftlinien um den Fleck ab?",
        "Wir haben sie in 300 Bildern digital entfernt, worauf die Wahrscheinlichkeit im Mittel um 18 "
        "Prozentpunkte fiel.",
    ),
    (
        "de",
        "haut.pdf",
        "Welche seltene Hautveränderung leidet beim Pruning zuerst?",
        "Die Trefferquote für Dermatofibrome, die seltenste Klasse, brach hingegen schon nach dem dritten Schritt ein.",
    ),
    (
        "de",
        "relevanz.pdf",
        "Woran hat das Modell Pferdebilder in Wirklichkeit erkannt?",
        "Ein bekanntes Beispiel ist ein Klassifikator, der Pferde an der Quellenangabe des Fotografen am unteren "
        "Bildrand erkannte.",
    ),
    (
        "de",
        "relevanz.pdf",
        "Wie viele Konzepte darf man einem Menschen höchstens zumuten?",
        "Fünf bis sieben gelten als gute Obergrenze.",
    ),
    (
        "de",
        "reproduzierbar.pdf",
        "Warum soll man Modelle nicht als Pickle weitergeben?",
        "Das übliche Verfahren mit Pickle kann beliebige Befehle enthalten und ist für fremde Dateien ungeeignet.",
    ),
    (
        "de",
        "reproduzierbar.pdf",
        "Wie viel Speicher hat die Gruppe durch den geteilten Cache gespart?",
        "Auf diese Weise sank der Platzbedarf der Gruppe von elf auf drei Terabyte.",
    ),
    # English of German
    (
        "en",
        "haut.pdf",
        "How should dermoscopic photos be split so that the same lesion does not leak into the test set?",
        "Deshalb teilen wir nach der Kennung der Läsion und nicht nach Bildern auf.",
    ),
    (
        "en",
        "haut.pdf",
        "From which countries and skin types do the pictures of skin lesions come?",
        "Fast alle Aufnahmen stammen von Menschen mit heller Haut aus Österreich und Australien.",
    ),
    (
        "en",
        "haut.pdf",
        "How many more patients are referred needlessly if 95 percent of the melanomas are to be found?",
        "Die Zahl der unnötigen Überweisungen steigt dadurch um ein Fünftel.",
    ),
    (
        "en",
        "relevanz.pdf",
        "What is the difference between a local and a global explanation?",
        "Eine lokale Erklärung betrifft ein einzelnes Bild, eine globale das Verhalten des ganzen Modells.",
    ),
    (
        "en",
        "relevanz.pdf",
        "What does European privacy law demand about automated decisions?",
        "Die europäische Datenschutz-Grundverordnung spricht von aussagekräftigen Informationen über die "
        "involvierte Logik.",
    ),
    (
        "en",
        "reproduzierbar.pdf",
        "How long may a section of a training run be in order to get through the queue quickly?",
        "Lange Trainingsläufe zerlegen wir deshalb in Abschnitte von höchstens zwei Stunden, die aufeinander aufbauen.",
    ),
    (
        "en",
        "reproduzierbar.pdf",
        "How are typing mistakes in the configuration caught early?",
        "Ein Schema weist Tippfehler zurück, bevor die erste Rechnung beginnt.",
    ),
    # German of English
    (
        "de",
        "mitosis.pdf",
        "Welcher Antikörper färbt gezielt Zellen in Teilung an?",
        "Antibodies against phosphorylated histone H3 stain mitotic cells selectively and could replace part of "
        "the manual annotation.",
    ),
    (
        "de",
        "mitosis.pdf",
        "Wie sehr verbesserte das Werkzeug die Übereinstimmung zweier Befunder?",
        "With the tool at hand the weighted kappa between two readers rose from 0.58 to 0.74.",
    ),
    (
        "de",
        "calibration.pdf",
        "Ab wie vielen Validierungsbildern lohnt sich isotone Regression?",
        "Below about a thousand validation samples it tends to overfit.",
    ),
    (
        "de",
        "concepts.pdf",
        "Warum unterscheiden sich Beispielbilder nach Aktivierung von denen nach Relevanz?",
        "The two selections often differ, because a channel may fire strongly on a background that the classifier "
        "ignores.",
    ),
    (
        "de",
        "deployment.pdf",
        "Um wie viel kleiner wird ein Modell, wenn man es auf ganze Zahlen mit 8 Bit umstellt?",
        "Quantisation replaces 32-bit floats by 8-bit integers and shrinks the file to a quarter.",
    ),
    (
        "de",
        "prototypes.pdf",
        "Wie rechnet ProtoPNet den Abstand in eine Ähnlichkeit um?",
        "The original network turns a squared distance d into a similarity with the logarithm of (d + 1) / (d + "
        "epsilon).",
    ),
    (
        "de",
        "workflows.pdf",
        "Was muss ein Zwischenstand des Trainings enthalten, damit eine Verdrängung auf dem Cluster nicht schadet?",
        "A training job should write a checkpoint after every epoch and include the state of the optimiser and of "
        "the random number generators.",
    ),
]
QUESTIONS = [
    Question(text, of, source, page_of(source, answer), answer, (of == "de") != (source in GERMAN))
    for of, source, text, answer in _ASKED
]

OFF_TOPIC = [
    "How long do I boil eggs so that the yolk stays soft?",
    "Who won the football World Cup in 1990?",
    "Until when do I have to file my income tax return?",
    "How do I prune apple trees in winter?",
    "Which filter does my coffee machine need?",
    "How is relevance defined in evidence law?",
    "What is the learning rate of a child acquiring language?",
    "How do I calibrate the torque wrench in my garage?",
    "Which layer of clothing should I wear for skiing?",
    "What is the best channel for watching cricket?",
    "How many neurons does the brain of a honey bee have?",
    "Where can I renew my passport in Edinburgh?",
    "How do I train a puppy not to bite?",
    "What does a cluster of grapes weigh?",
    "Wie lange muss ein Sauerteigbrot backen?",
    "Wer schoss das Siegtor im Finale der Weltmeisterschaft 2014?",
    "Welche Fristen gelten für den Widerspruch gegen einen Steuerbescheid?",
    "Wann schneidet man Rosen zurück?",
    "Welchen Filter braucht meine Dunstabzugshaube?",
    "Wie relevant ist das Alter eines Zeugen vor Gericht?",
    "Wie oft soll ich die Haut im Winter eincremen?",
    "Welche Schicht Farbe kommt beim Streichen einer Holztür zuerst?",
    "Wie kalibriere ich den Drucksensor am Fahrradreifen?",
    "Auf welchem Kanal läuft heute das Konzert?",
    "Wie viel kostet eine Monatskarte für die Münchner U-Bahn?",
    "Was bedeutet das Sternbild Schütze im Horoskop?",
    "Wie bringe ich meinem Hund bei, bei Fuß zu gehen?",
    "Welche Prototypen zeigte der Autosalon in Genf?",
]
