"""What tests of pages share: hostile names, and a page as its elements."""

from html.parser import HTMLParser

HOSTILE = "\"><script>alert(1)</script>\n\u202e'&amp;"


SEEN = "\"><script>alert(1)</script>\\n\\u202e'&amp;"


class Elements(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(str(text))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data
