"""The HParams tab in a headless Chromium: how it is started, and what is asked of the page."""

ARGUMENTS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]

# Every element of the page, those in shadow roots too; then the cells of the table that are filled, row by row.
EVERYTHING = """
  const everything = [];
  (function walk(root) {
    for (const element of root.querySelectorAll('*')) {
      everything.push(element);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  })(document);
  const all = name => everything.filter(element => element.localName === name);
"""
TABLE = (
    EVERYTHING
    + """
  const text = cell => {
    const content = cell.querySelector('slot').assignedNodes()[0];
    return content ? content.innerText.trim() : '';
  };
  const [grid] = all('vaadin-grid').filter(grid => grid.offsetParent);
  if (!grid) return null;
  const rows = part => [...grid.shadowRoot.querySelectorAll(part + ' tr')].filter(row => !row.hidden);
  const cells = row => [...row.querySelectorAll('th, td')].filter(cell => cell.querySelector('slot')).map(text);
  return {head: rows('thead').map(cells), body: rows('#items').map(cells).filter(row => row[0])};
"""
)
PRESS = (
    EVERYTHING
    + """
  const [name, label] = arguments;
  all(name).find(element => element.textContent.trim() === label).click();
"""
)
