"""Tables of a page: framed so that wide ones scroll alone, numbers to the right, intervals in one line.

Unusual: a column is one of numbers if all its cells look like numbers, as pandas' HTML does not say.
"""

import re

NUMBER = re.compile(r"[-+−]?\d[\d.,]*(e[-+]?\d+)?[\u202f\xa0 ]?(%|s|ms|min|h|MB|kB|M|k)?|nan|NaN|None|–|-|")
INTERVAL = re.compile(r"\([^()]*\d[^()]{2,24}\)$")  # at the end of a cell: "(89.0-96.8)", "(+1.2 to +3.4)"
LONG = re.compile(r"(?s).{48,}")  # text that may break anywhere, so that no column is squeezed
SHORT = re.compile(r"^.{1,24}$")  # the name of a row, that stays in one line


def section(tag, otherwise="the introduction"):
    """The heading that `tag` stands under."""
    heading = tag.find_previous(["h2", "h3", "h4"])
    return heading.get_text() if heading else otherwise


def frame(soup, main):
    """Frame every table below the element `main` of the page `soup`; wide ones scroll, also by keyboard."""
    for cell in main.find_all("td", string=INTERVAL):
        cell.string = INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), cell.string)
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
        if len(rows[0]) > 7:
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
