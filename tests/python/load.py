"""How much work records are beside their bytes: told from these before anything is decoded, so that
what is refused for it costs little (docs/FORMATS.md, "Load")."""

from formats import check
from wire import SCHEMA, Malformed, Reader

FIELDS_MAX = 262_144
FIELDS_BASE, BYTES_PER_FIELD = 16_384, 8
MESSAGES_BASE, BYTES_PER_MESSAGE = 4_096, 32
RECORD, REFERENCES = "Record", "references"


class Load:
    """How many fields, messages and references some records have together, as far as their bytes
    can be read."""

    def __init__(self, *records):
        self.bytes = self.fields = self.messages = self.references = 0
        for data in records:
            self.bytes += len(data)
            # Of each record by itself, however many bytes it has.
            self.fields_max = self.fields + FIELDS_MAX
            self.count(RECORD, data)

    def count(self, message, data):
        """Counts what is in a message, up to what cannot be read: no decoder gets behind that."""
        reader, fields = Reader(data), SCHEMA.messages[message]
        while reader.left():
            try:
                number, wire_type = reader.key()
                # It counts also where its value cannot be read.
                self.fields += 1
                few = self.fields <= self.fields_max
                check(few, "RECORD_LEAVES", f"a record of more than {FIELDS_MAX} fields")
                value = reader.value(number, wire_type)
            except Malformed:
                return
            field = fields.get(number)
            if field is not None:
                self.count_known(message, field, value)

    def count_known(self, message, field, value):
        self.references += message == RECORD and field.name == REFERENCES
        kind = SCHEMA.resolve(field)
        if value is not None and kind in SCHEMA.messages:
            self.messages += 1
            self.count(kind, value)

    def check(self, code):
        """That the bytes are enough for the fields and messages."""
        fields = FIELDS_BASE + self.bytes // BYTES_PER_FIELD
        check(self.fields <= fields, code, f"{self.fields} fields in {self.bytes} bytes")
        messages = MESSAGES_BASE + self.bytes // BYTES_PER_MESSAGE
        check(self.messages <= messages, code, f"{self.messages} messages in {self.bytes} bytes")
