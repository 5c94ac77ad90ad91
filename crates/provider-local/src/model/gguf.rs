//! Just enough of the GGUF container: a look into the header of a foreign file before the C++ engine gets it, and a writer
//! for the one model that we convert ourselves.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::ModelError;

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGN: u64 = 32;
const KIND_U32: u32 = 4;
const KIND_STRING: u32 = 8;
const KIND_ARRAY: u32 = 9;

/// What the header of a GGUF file says, as far as we must know before loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peek {
    /// `general.architecture`.
    pub(crate) architecture: String,
    /// Whether the file declares a pooling, that is, whether it is an embedding model.
    pub(crate) pools: bool,
}

impl Peek {
    /// Reads the header. Refuses what is not GGUF, so that the engine never sees arbitrary bytes.
    pub(crate) fn at(path: &Path) -> Result<Self, ModelError> {
        let file =
            File::open(path).map_err(|source| ModelError::Unreadable { path: path.to_owned(), source })?;
        Reader(BufReader::new(file)).peek().map_err(|why| ModelError::NotGguf { path: path.to_owned(), why })
    }
}

struct Reader<R>(R);

impl<R: Read> Reader<R> {
    fn peek(&mut self) -> Result<Peek, String> {
        if &self.bytes::<4>()? != MAGIC {
            return Err("it does not begin with GGUF".to_owned());
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("expected version 2 or 3, found {version}"));
        }
        let _tensors = self.u64()?;
        let pairs = self.u64()?;
        if pairs > 65_536 {
            return Err(format!("it declares {pairs} header entries, at most 65536 are sensible"));
        }
        let mut peek = Peek { architecture: String::new(), pools: false };
        for _ in 0..pairs {
            let key = self.string(1 << 16)?;
            let kind = self.u32()?;
            if key == "general.architecture" && kind == KIND_STRING {
                peek.architecture = self.string(256)?;
                continue;
            }
            peek.pools |= key.ends_with(".pooling_type");
            // Everything worth knowing stands before the tokenizer's long lists.
            if key.starts_with("tokenizer.") && !peek.architecture.is_empty() {
                break;
            }
            self.skip(kind, 0)?;
        }
        if peek.architecture.is_empty() {
            return Err("it names no architecture".to_owned());
        }
        Ok(peek)
    }

    fn skip(&mut self, kind: u32, depth: u32) -> Result<(), String> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            KIND_STRING => self.u64()?,
            KIND_ARRAY if depth < 4 => {
                let inner = self.u32()?;
                let count = self.u64()?;
                for _ in 0..count {
                    self.skip(inner, depth + 1)?;
                }
                0
            }
            other => return Err(format!("unknown value type {other} in its header")),
        };
        let passed = std::io::copy(&mut (&mut self.0).take(width), &mut std::io::sink()).map_err(short)?;
        if passed == width { Ok(()) } else { Err("its header is cut short".to_owned()) }
    }

    fn string(&mut self, most: u64) -> Result<String, String> {
        let length = self.u64()?;
        if length > most {
            return Err(format!("a text of {length} bytes in its header is too long"));
        }
        let mut text = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut text).map_err(short)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).map_err(short)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }
}

fn short(error: std::io::Error) -> String {
    format!("its header cannot be read: {error}")
}

/// A header value that we write.
pub(super) enum Value<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(&'a [String]),
    I32s(&'a [i32]),
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// As they are.
    F32,
    /// Blocks of 32 signed bytes with one 16-bit scale: a quarter of the size, and the engine's fastest format.
    Q8,
}

impl Store {
    fn code(self) -> u32 {
        match self {
            Store::F32 => 0,
            Store::Q8 => 8,
        }
    }

    fn size(self, numbers: u64) -> u64 {
        match self {
            Store::F32 => numbers * 4,
            Store::Q8 => numbers / 32 * 34,
        }
    }
}

/// One tensor to write. `shape` is in GGUF order: the fastest running dimension first.
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) store: Store,
    /// Little-endian f32.
    pub(super) numbers: &'a [u8],
}

/// Writes a whole file, version 3.
pub(super) fn write(
    out: &mut impl Write,
    header: &[(&str, Value<'_>)],
    tensors: &[Tensor<'_>],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&3_u32.to_le_bytes());
    head.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    head.extend_from_slice(&(header.len() as u64).to_le_bytes());
    for (key, value) in header {
        put_text(&mut head, key);
        put_value(&mut head, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut head, &tensor.name);
        head.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        for dimension in &tensor.shape {
            head.extend_from_slice(&dimension.to_le_bytes());
        }
        head.extend_from_slice(&tensor.store.code().to_le_bytes());
        head.extend_from_slice(&u64::to_le_bytes(offset));
        offset += tensor.store.size(tensor.shape.iter().product()).next_multiple_of(ALIGN);
    }
    pad(&mut head);
    out.write_all(&head)?;
    for tensor in tensors {
        let mut data = match tensor.store {
            Store::F32 => tensor.numbers.to_vec(),
            Store::Q8 => quantise(tensor.numbers),
        };
        pad(&mut data);
        out.write_all(&data)?;
    }
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize((bytes.len() as u64).next_multiple_of(ALIGN) as usize, 0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    let mut kind = |kind: u32, rest: &[u8]| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(rest);
    };
    match value {
        Value::U32(number) => kind(KIND_U32, &number.to_le_bytes()),
        Value::F32(number) => kind(6, &number.to_le_bytes()),
        Value::Bool(yes) => kind(7, &[u8::from(*yes)]),
        Value::Text(text) => {
            kind(KIND_STRING, &[]);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            kind(KIND_ARRAY, &KIND_STRING.to_le_bytes());
            out.extend_from_slice(&(texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::I32s(numbers) => {
            kind(KIND_ARRAY, &5_u32.to_le_bytes());
            out.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
    }
}

/// Q8_0: per 32 numbers a scale of max/127 and the rounded quotients.
fn quantise(numbers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(numbers.len() / 128 * 34);
    for block in numbers.chunks_exact(128) {
        let values: Vec<f32> = block
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        let scale = values.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        out.extend_from_slice(&half(scale).to_le_bytes());
        out.extend(values.iter().map(|value| (value * inverse).round() as i8 as u8));
    }
    out
}

/// An f32 as IEEE half precision, rounded to nearest, ties to even.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    let mantissa = (bits & 0x007f_ffff) | 0x0080_0000;
    if exponent >= 31 {
        return sign | 0x7c00;
    }
    // Below the normal range the mantissa moves right by as many more places as the exponent is too small.
    let shift = if exponent <= 0 { (14 - exponent).min(31) as u32 } else { 13 };
    let kept = mantissa >> shift;
    let rest = mantissa & ((1 << shift) - 1);
    let middle = 1 << (shift - 1);
    let rounded = kept + u32::from(rest > middle || (rest == middle && kept & 1 == 1));
    let base = if exponent <= 0 { 0 } else { ((exponent - 1) as u32) << 10 };
    sign | (base + rounded) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact_where_it_can_be() {
        for (value, bits) in
            [(0.0, 0), (1.0, 0x3c00), (-2.0, 0xc000), (65504.0, 0x7bff), (5.960_464_5e-8, 1), (0.1, 0x2e66)]
        {
            assert_eq!(half(value), bits, "{value}");
        }
    }

    #[test]
    fn what_is_written_can_be_peeked() {
        let numbers = [0; 128];
        let tensor = Tensor { name: "t".into(), shape: vec![32], store: Store::Q8, numbers: &numbers };
        let header = [
            ("general.architecture", Value::Text("bert")),
            ("bert.pooling_type", Value::U32(1)),
            ("tokenizer.ggml.tokens", Value::Texts(&["a".to_owned()])),
        ];
        let mut out = Vec::new();
        write(&mut out, &header, &[tensor]).unwrap();
        assert_eq!(out.len() % 32, 0);
        let peek = Reader(out.as_slice()).peek().unwrap();
        assert_eq!(peek, Peek { architecture: "bert".into(), pools: true });
    }

    #[test]
    fn foreign_and_cut_files_are_refused() {
        for bytes in [
            b"".as_slice(),
            b"GGU",
            b"PK\x03\x04aaaaaaaaaaaaaaaa",
            b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(Reader(bytes).peek().is_err());
        }
    }
}
