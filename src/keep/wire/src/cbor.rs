//! Deterministic CBOR (RFC 8949 §4.2.1), the small part that our formats use: unsigned and negative integers,
//! byte and text strings, arrays, maps with unsigned integer keys, booleans.
//!
//! Reading is strict: shortest heads only, definite lengths only, map keys strictly ascending, closed maps (an unknown
//! key is an error), nothing after the value. One value has therefore exactly one encoding, and a digest or signature
//! over the bytes is a digest or signature over the meaning.

/// Why bytes are not the deterministic encoding of the expected type.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// The input ends inside a value.
    #[error("the CBOR value is cut short")]
    Truncated,
    /// Bytes follow the value.
    #[error("bytes follow the CBOR value")]
    Trailing,
    /// A head is longer than it needs to be, or a map's keys are not strictly ascending.
    #[error("the CBOR value is not in its shortest, ordered form")]
    NotCanonical,
    /// Another type than the schema asks for.
    #[error("the CBOR value has another type than its place asks for")]
    Type,
    /// A map key that the schema does not know.
    #[error("unknown field {0} in a closed CBOR map")]
    UnknownField(u64),
    /// A map key that the schema demands is not there.
    #[error("field {0} is missing in a CBOR map")]
    MissingField(u64),
    /// A number or length outside what the schema allows.
    #[error("a CBOR value is out of its range")]
    Range,
}

const UINT: u8 = 0;
const NINT: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;
// Additional information of a head whose value follows in so many bytes.
const ONE_BYTE: u8 = 0x18;
const TWO_BYTES: u8 = 0x19;
const FOUR_BYTES: u8 = 0x1a;
const EIGHT_BYTES: u8 = 0x1b;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// Nesting deeper than this is refused by no counter but by the schemas themselves: every type here has finite depth.
/// A length is never trusted for an allocation beyond this many elements before they are read.
const PREALLOCATE: usize = 1024;

/// Writes canonical CBOR into a growing buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes written so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..=23 => self.out.push(major | bytes[7]),
            24..=0xff => self.out.extend([major | ONE_BYTE, bytes[7]]),
            0x100..=0xffff => {
                self.out.push(major | TWO_BYTES);
                self.out.extend(&bytes[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | FOUR_BYTES);
                self.out.extend(&bytes[4..]);
            }
            _ => {
                self.out.push(major | EIGHT_BYTES);
                self.out.extend(&bytes);
            }
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.head(UINT, value);
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        if value >= 0 {
            self.head(UINT, value.unsigned_abs());
        } else {
            self.head(NINT, !value.cast_unsigned());
        }
    }

    /// The head of a byte string of `len` bytes, which the caller writes next.
    pub fn bytes_head(&mut self, len: usize) {
        self.head(BYTES, len as u64);
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.bytes_head(value.len());
        self.out.extend(value);
    }

    /// A text string.
    pub fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.out.extend(value.as_bytes());
    }

    /// The head of an array of `len` values, which the caller writes next.
    pub fn array(&mut self, len: usize) {
        self.head(ARRAY, len as u64);
    }

    /// The head of a map of `len` pairs, which the caller writes next in ascending key order.
    pub fn map(&mut self, len: usize) {
        self.head(MAP, len as u64);
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }
}

/// Reads canonical CBOR from a slice.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Fails unless all input is consumed.
    pub fn finish(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CborError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let first = *self.take(1)?.first().ok_or(CborError::Truncated)?;
        let (major, info) = (first >> 5, first & 0x1f);
        let (value, least) = match info {
            0..=23 => (u64::from(info), 0),
            ONE_BYTE => (self.be(1)?, 24),
            TWO_BYTES => (self.be(2)?, 0x100),
            FOUR_BYTES => (self.be(4)?, 0x1_0000),
            EIGHT_BYTES => (self.be(8)?, 0x1_0000_0000),
            _ => return Err(CborError::NotCanonical),
        };
        if value < least { Err(CborError::NotCanonical) } else { Ok((major, value)) }
    }

    fn be(&mut self, len: usize) -> Result<u64, CborError> {
        Ok(self.take(len)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }

    fn expect(&mut self, major: u8) -> Result<u64, CborError> {
        let (found, value) = self.head()?;
        if found == major { Ok(value) } else { Err(CborError::Type) }
    }

    fn length(&mut self, major: u8) -> Result<usize, CborError> {
        usize::try_from(self.expect(major)?).map_err(|_| CborError::Range)
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.expect(UINT)
    }

    /// A signed integer.
    pub fn int(&mut self) -> Result<i64, CborError> {
        let (major, value) = self.head()?;
        let value = i64::try_from(value).map_err(|_| CborError::Range)?;
        match major {
            UINT => Ok(value),
            NINT => Ok(!value),
            _ => Err(CborError::Type),
        }
    }

    /// A byte string, borrowed from the input.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let len = self.length(BYTES)?;
        self.take(len)
    }

    /// A text string, borrowed from the input.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let len = self.length(TEXT)?;
        core::str::from_utf8(self.take(len)?).map_err(|_| CborError::Type)
    }

    /// The element count of an array, whose values the caller reads next.
    pub fn array(&mut self) -> Result<usize, CborError> {
        self.length(ARRAY)
    }

    /// A boolean.
    pub fn bool(&mut self) -> Result<bool, CborError> {
        match self.take(1)?.first() {
            Some(&FALSE) => Ok(false),
            Some(&TRUE) => Ok(true),
            Some(byte) if byte >> 5 == SIMPLE => Err(CborError::Range),
            _ => Err(CborError::Type),
        }
    }

    /// A closed map: `field` is called once per key, in strictly ascending order, and reads the value.
    pub fn map(
        &mut self,
        mut field: impl FnMut(u64, &mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let len = self.length(MAP)?;
        let mut last = None;
        for _ in 0..len {
            let key = self.uint()?;
            if last.is_some_and(|last| key <= last) {
                return Err(CborError::NotCanonical);
            }
            last = Some(key);
            field(key, self)?;
        }
        Ok(())
    }
}

/// A type with exactly one CBOR encoding.
pub trait Cbor: Sized {
    /// Appends the encoding.
    fn encode(&self, out: &mut Encoder);

    /// Reads one value.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError>;

    /// The encoding as bytes.
    fn to_cbor(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.into_bytes()
    }

    /// Reads a value that fills `bytes` to the last byte.
    fn from_cbor(bytes: &[u8]) -> Result<Self, CborError> {
        let mut input = Decoder::new(bytes);
        let value = Self::decode(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

macro_rules! uint_cbor {
    ($($int:ty),*) => {$(
        impl Cbor for $int {
            fn encode(&self, out: &mut Encoder) {
                out.uint(u64::from(*self));
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
                <$int>::try_from(input.uint()?).map_err(|_| CborError::Range)
            }
        }
    )*};
}
uint_cbor!(u16, u32, u64);

impl Cbor for i64 {
    fn encode(&self, out: &mut Encoder) {
        out.int(*self);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        input.int()
    }
}

impl Cbor for bool {
    fn encode(&self, out: &mut Encoder) {
        out.bool(*self);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        input.bool()
    }
}

impl Cbor for String {
    fn encode(&self, out: &mut Encoder) {
        out.text(self);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(input.text()?.to_owned())
    }
}

impl<const N: usize> Cbor for [u8; N] {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(self);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        input.bytes()?.try_into().map_err(|_| CborError::Range)
    }
}

/// A byte string of any length. (`Vec<u8>` would read as an array of integers.)
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(clippy::exhaustive_structs)]
pub struct Bytes(pub Vec<u8>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl core::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Cbor for Bytes {
    fn encode(&self, out: &mut Encoder) {
        out.bytes(&self.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self(input.bytes()?.to_vec()))
    }
}

impl<T: Cbor> Cbor for Vec<T> {
    fn encode(&self, out: &mut Encoder) {
        out.array(self.len());
        for item in self {
            item.encode(out);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        let len = input.array()?;
        let mut items = Vec::with_capacity(len.min(PREALLOCATE));
        for _ in 0..len {
            items.push(T::decode(input)?);
        }
        Ok(items)
    }
}

/// One field of a [`cbor_struct!`]: required by default, absent when `None` for `Option`.
#[doc(hidden)]
pub trait Field: Sized {
    fn present(&self) -> bool;
    fn write(&self, out: &mut Encoder);
    fn read(input: &mut Decoder<'_>) -> Result<Self, CborError>;
    fn missing(key: u64) -> Result<Self, CborError>;
}

impl<T: Cbor> Field for T {
    fn present(&self) -> bool {
        true
    }

    fn write(&self, out: &mut Encoder) {
        self.encode(out);
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        T::decode(input)
    }

    fn missing(key: u64) -> Result<Self, CborError> {
        Err(CborError::MissingField(key))
    }
}

impl<T: Cbor> Field for Option<T> {
    fn present(&self) -> bool {
        self.is_some()
    }

    fn write(&self, out: &mut Encoder) {
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn read(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        T::decode(input).map(Some)
    }

    fn missing(_: u64) -> Result<Self, CborError> {
        Ok(None)
    }
}

/// Declares a struct that is a closed CBOR map with integer keys. Keys must ascend; `Option` fields are left out when
/// `None`.
#[macro_export]
macro_rules! cbor_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $key:literal => $field:ident : $ty:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[allow(clippy::exhaustive_structs)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $crate::cbor::Cbor for $name {
            fn encode(&self, out: &mut $crate::cbor::Encoder) {
                let present = [$( $crate::cbor::Field::present(&self.$field), )*];
                out.map(present.into_iter().filter(|present| *present).count());
                $(
                    if $crate::cbor::Field::present(&self.$field) {
                        out.uint($key);
                        $crate::cbor::Field::write(&self.$field, out);
                    }
                )*
            }

            fn decode(input: &mut $crate::cbor::Decoder<'_>) -> Result<Self, $crate::cbor::CborError> {
                $( let mut $field = None; )*
                input.map(|key, input| {
                    match key {
                        $( $key => $field = Some(<$ty as $crate::cbor::Field>::read(input)?), )*
                        _ => return Err($crate::cbor::CborError::UnknownField(key)),
                    }
                    Ok(())
                })?;
                Ok(Self {
                    $( $field: match $field {
                        Some(value) => value,
                        None => <$ty as $crate::cbor::Field>::missing($key)?,
                    }, )*
                })
            }
        }
    };
}

/// Declares an enum of named numbers, written as an unsigned integer, with a stable text name for people and policy.
#[macro_export]
macro_rules! cbor_code {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $code:literal, $text:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[allow(clippy::exhaustive_enums)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $code, )*
        }

        impl $name {
            /// Every value, in code order.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The number on the wire.
            pub const fn code(self) -> u64 {
                self as u64
            }

            /// The value with this number.
            pub const fn from_code(code: u64) -> Option<Self> {
                match code {
                    $( $code => Some(Self::$variant), )*
                    _ => None,
                }
            }

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )*
                }
            }

            /// The value with this stable name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( $text => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::cbor::Cbor for $name {
            fn encode(&self, out: &mut $crate::cbor::Encoder) {
                out.uint(self.code());
            }

            fn decode(input: &mut $crate::cbor::Decoder<'_>) -> Result<Self, $crate::cbor::CborError> {
                Self::from_code(input.uint()?).ok_or($crate::cbor::CborError::Range)
            }
        }
    };
}

/// Declares an enum whose variants each carry one CBOR value: written as `[tag, value]`.
#[macro_export]
macro_rules! cbor_union {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $tag:literal => $variant:ident($ty:ty), )*
        }
    ) => {
        $(#[$meta])*
        #[allow(clippy::exhaustive_enums, clippy::large_enum_variant)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant($ty), )*
        }

        impl $name {
            /// The numbers of all variants, as declared.
            pub const TAGS: &'static [u64] = &[$( $tag, )*];

            /// The number that names this variant on the wire.
            pub const fn tag(&self) -> u64 {
                match self {
                    $( Self::$variant(_) => $tag, )*
                }
            }
        }

        impl $crate::cbor::Cbor for $name {
            fn encode(&self, out: &mut $crate::cbor::Encoder) {
                out.array(2);
                match self {
                    $( Self::$variant(value) => {
                        out.uint($tag);
                        $crate::cbor::Cbor::encode(value, out);
                    } )*
                }
            }

            fn decode(input: &mut $crate::cbor::Decoder<'_>) -> Result<Self, $crate::cbor::CborError> {
                if input.array()? != 2 {
                    return Err($crate::cbor::CborError::Range);
                }
                match input.uint()? {
                    $( $tag => Ok(Self::$variant($crate::cbor::Cbor::decode(input)?)), )*
                    _ => Err($crate::cbor::CborError::Range),
                }
            }
        }
    };
}

/// A body without fields: the empty map.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Empty {}

impl Cbor for Empty {
    fn encode(&self, out: &mut Encoder) {
        out.map(0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, CborError> {
        input.map(|key, _| Err(CborError::UnknownField(key)))?;
        Ok(Self {})
    }
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro makes public types")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    cbor_struct! {
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Sample {
            0 => number: u64,
            1 => name: String,
            5 => maybe: Option<Bytes>,
            9 => list: Vec<u32>,
        }
    }

    fn sample() -> Sample {
        Sample { number: 300, name: "市民".into(), maybe: Some(vec![1, 2].into()), list: vec![1, 70_000] }
    }

    #[test]
    fn known_encoding() {
        let expected = b"\xa4\x00\x19\x01\x2c\x01\x66\xe5\xb8\x82\xe6\xb0\x91\x05\x42\x01\x02\x09\x82\x01\x1a\x00\x01\x11\x70";
        assert_eq!(sample().to_cbor(), expected);
    }

    #[test]
    fn every_cut_and_every_extension_is_refused() {
        let bytes = sample().to_cbor();
        for len in 0..bytes.len() {
            assert!(Sample::from_cbor(&bytes[..len]).is_err(), "{len}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Sample::from_cbor(&longer), Err(CborError::Trailing));
    }

    #[test]
    fn long_heads_unknown_and_unordered_keys_are_refused() {
        assert_eq!(u64::from_cbor(&[0x18, 23]), Err(CborError::NotCanonical));
        assert_eq!(u64::from_cbor(&[0x19, 0, 24]), Err(CborError::NotCanonical));
        assert_eq!(Empty::from_cbor(&[0xbf, 0xff]), Err(CborError::NotCanonical));
        assert_eq!(Empty::from_cbor(&[0xa1, 0x07, 0x00]), Err(CborError::UnknownField(7)));
        assert_eq!(Sample::from_cbor(&[0xa1, 0x00, 0x00]), Err(CborError::MissingField(1)));
        assert_eq!(
            Sample::from_cbor(&[0xa2, 0x01, 0x60, 0x00, 0x00]),
            Err(CborError::NotCanonical),
            "descending keys"
        );
        assert_eq!(
            Sample::from_cbor(&[0xa2, 0x00, 0x00, 0x00, 0x00]),
            Err(CborError::NotCanonical),
            "a key twice"
        );
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        assert_eq!(
            Vec::<u64>::from_cbor(&[0x9b, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Err(CborError::Truncated)
        );
    }

    proptest! {
        #[test]
        fn integers_round_trip(unsigned: u64, signed: i64) {
            prop_assert_eq!(u64::from_cbor(&unsigned.to_cbor()), Ok(unsigned));
            prop_assert_eq!(i64::from_cbor(&signed.to_cbor()), Ok(signed));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = Sample::from_cbor(&bytes) {
                prop_assert_eq!(value.to_cbor(), bytes);
            }
        }
    }
}
