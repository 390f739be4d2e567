//! Little-endian fields, one after the other, as the byte diagrams list them.

/// Reads fields from the front of a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte. The caller has checked that all fields are there.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (field, rest) = self.rest.split_at(len);
        self.rest = rest;
        field
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().expect("a field has its length")
    }

    pub(super) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

/// Writes fields to the front of a slice.
pub(super) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    /// Starts at the first byte. The caller has made room for all fields.
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn bytes(&mut self, field: &[u8]) {
        let (to, rest) = std::mem::take(&mut self.rest).split_at_mut(field.len());
        to.copy_from_slice(field);
        self.rest = rest;
    }

    pub(super) fn u8(&mut self, field: u8) {
        self.bytes(&field.to_le_bytes());
    }

    pub(super) fn u16(&mut self, field: u16) {
        self.bytes(&field.to_le_bytes());
    }

    pub(super) fn u32(&mut self, field: u32) {
        self.bytes(&field.to_le_bytes());
    }

    pub(super) fn u64(&mut self, field: u64) {
        self.bytes(&field.to_le_bytes());
    }

    /// Bytes that mean nothing yet.
    pub(super) fn reserved(&mut self, len: usize) {
        let (to, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        to.fill(0);
        self.rest = rest;
    }

    /// Everything behind the last field is zero.
    pub(super) fn end(self) {
        self.rest.fill(0);
    }
}

/// Bytes that stand where a magic was expected, for messages.
pub(super) fn shown(magic: &[u8; 8]) -> String {
    if *magic == [0; 8] { "zeroes".to_owned() } else { format!("\"{}\"", magic.escape_ascii()) }
}
