"""Tables of a page: framed so that wide ones scroll alone, numbers to the right, intervals in one line.

Unusual: a column is one of numbers if all its cells look like numbers, as pandas' HTML does not say.
"""

import re

NUMBER = re.compile(r"[-+−]?\d[\d.,]*(e[-+]?\d+)?[\u202f\xa0 ]?(%|s|ms|min|h|MB|kB|M|k)?|nan|NaN|None|–|-|")
INTERVAL = re.compile(r"\([^()]*\d[^()]{2,24}\)$")  # at the end of a cell: "(89.0-96.8)", "(+1.2 to +3.4)"
LONG = re.compile(r"(?s).{48,}")  # text that may break anywhere, so that no column is squeezed
SHORT = re.compile(r"^.{1,24}$")  # the name of a row, that stays in one line
SHORT_HEAD = 8  # letters of a column's name from which it may break at a hyphen
WIDE = 16  # letters of an interval that may break within
COLUMNS, LETTERS = 7, 90  # a table with more columns, or wider ones, is set close, with intervals below their values


def section(tag, otherwise="the introduction"):
    """The heading that `tag` stands under."""
    heading = tag.find_previous(["h2", "h3", "h4"])
    return heading.get_text() if heading else otherwise


def letters(rows):
    """How wide the rows would be in one line each; a long text, which breaks anywhere, counts as none."""
    return max(sum(len(text) for cell in row if not LONG.match(text := cell.get_text())) for row in rows)


def breakable(soup, cell):
    """Let a name such as halt_max_steps or exact_match/6x6 break after its marks, but not CPU-s."""
    if isinstance(cell.string, str) and len(cell.string) < SHORT_HEAD:
        cell.string = cell.string.replace("-", "\u2011")
    if isinstance(cell.string, str) and re.search("[_/]", cell.string):
        first, *rest = re.split("(?<=[_/])", cell.string)
        cell.string = first
        for part in rest:
            cell.extend((soup.new_tag("wbr"), part))


def frame(soup, main):
    """Frame every table below the element `main` of the page `soup`; wide ones scroll, also by keyboard."""
    for cell in main.find_all("td", string=INTERVAL):
        text, interval = cell.string, INTERVAL.search(cell.string)[0]
        cell.string = text.removesuffix(interval)
        span = soup.new_tag("span", attrs={"class": "interval"})
        cell.append(span)
        if "\u2011" in interval and len(interval) > WIDE:  # (0.0004358-0.0005455): in two lines
            low, high = interval.split("\u2011", 1)
            span.extend((low + "\u2011", soup.new_tag("wbr"), high))
        else:
            span.string = interval.replace(" ", "\u00a0")
    for cell in main.select("thead th"):
        breakable(soup, cell)
    for cell in main.find_all("td", string=LONG):
        cell["class"] = [*cell.get("class", []), "long"]
    for cell in main.find_all("th", string=SHORT):
        if cell.find_parent("tbody"):
            cell["class"] = [*cell.get("class", []), "short"]
    for table in main.find_all("table"):
        del table["border"]
        for row in table.find_all("tr"):
            del row["style"]  # pandas aligns heads on its own
        name = table.caption.get_text() if table.caption else f"Table in the section “{section(table)}”"
        table.wrap(soup.new_tag("div", attrs={"class": "table", "role": "region", "tabindex": "0", "aria-label": name}))
        rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
        if table.thead and len(table.thead.find_all("tr")) == 2 and len(rows[0]) == len(rows[1]) and not any(
                a.get_text() and b.get_text() for a, b in zip(*rows[:2], strict=True)):
            for above, name in zip(*rows[:2], strict=True):  # pandas gives the index's names a row of their own
                above.string = above.get_text() or name.get_text()
            table.thead.find_all("tr")[1].decompose()
            del rows[1]
        if len(rows[0]) > COLUMNS or letters(rows) > LETTERS:
            table["class"] = [*table.get("class", []), "many"]
        for row in rows:
            if len(row) < len(rows[0]):  # beside a cell that spans rows
                row[0]["class"] = [*row[0].get("class", []), "inner"]
        if any(cell.get("colspan", "1") != "1" or cell.get("rowspan", "1") != "1" for row in rows for cell in row):
            continue
        for column in zip(*(row for row in rows if len(row) == max(map(len, rows))), strict=True):
            texts = [cell.get_text(strip=True) for cell in column if cell.name == "td"]
            if any(texts) and all(NUMBER.fullmatch(text) for text in texts):
                for cell in column:
                    cell["class"] = [*cell.get("class", []), "num"]
