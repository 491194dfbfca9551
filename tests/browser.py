"""A real browser, for the tests of what a person looks at."""

import shutil
from contextlib import contextmanager
from importlib.util import find_spec

BROWSER = find_spec("playwright") and (shutil.which("chromium") or shutil.which("google-chrome"))

# the least contrast (WCAG 2.1) of text with what is painted below it, and that text
CONTRAST = """
root => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => value * a + below[i] * (1 - a));
  const light = colour => {
    const [r, g, b] = colour.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let worst = [99, ""];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
    const above = [];
    for (let each = element; each; each = each.parentElement) above.unshift(getComputedStyle(each));
    let below = [255, 255, 255], opacity = 1;
    for (const style of above) {
      below = over(parse(style.backgroundColor), below);
      opacity *= style.opacity;
    }
    const [r, g, b, a] = parse(getComputedStyle(element).color);
    const [low, high] = [light(below), light(over([r, g, b, a * opacity], below))].sort((one, two) => one - two);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < worst[0]) worst = [contrast, text.data];
  }
  return worst;
}
"""


@contextmanager
def opened(file, width=1400, theme="light"):
    """Yield the page of a file as a browser of some width and theme shows it, and what it complains of."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page, complaints = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
        )
        page.goto(file.as_uri(), wait_until="load")
        yield page, complaints
        browser.close()
