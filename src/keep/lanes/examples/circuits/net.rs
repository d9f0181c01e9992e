//! Circuits of three-input look-ups: what they compute, how they are written down, how they are found.

/// The S-boxes of DES as the standard prints them (FIPS 46-3): four rows of sixteen each.
pub(crate) const S: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5,
        3, 8, 4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14,
        10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9,
        11, 5, 0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12,
        0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11,
        15, 1, 13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3,
        11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10,
        14, 9, 10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11,
        12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9,
        8, 6, 4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9,
        10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11,
        3, 8, 9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7,
        6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15,
        8, 6, 1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15,
        14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14,
        9, 2, 7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0,
        3, 5, 6, 11,
    ],
];

/// The truth table of each input: bit x of it is that input for the argument x. Input 0 is the most significant bit.
pub(crate) const INPUTS: [u64; 6] = [
    0xffff_ffff_0000_0000,
    0xffff_0000_ffff_0000,
    0xff00_ff00_ff00_ff00,
    0xf0f0_f0f0_f0f0_f0f0,
    0xcccc_cccc_cccc_cccc,
    0xaaaa_aaaa_aaaa_aaaa,
];

/// The truth tables of a box's four outputs, most significant first.
pub(crate) fn outputs(s_box: usize) -> [u64; 4] {
    let mut tables = [0; 4];
    for x in 0..64_usize {
        // The outer bits choose the row, the inner ones the column.
        let value = S[s_box][(x >> 5) * 32 + (x & 1) * 16 + (x >> 1 & 15)];
        for (o, table) in tables.iter_mut().enumerate() {
            *table |= u64::from(value >> (3 - o) & 1) << x;
        }
    }
    tables
}

/// A look-up: bit 4a + 2b + c of `table` is its value; a, b, c are inputs (0 to 5) or gates before it (6 and up).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gate {
    pub(crate) table: u8,
    pub(crate) from: [usize; 3],
}

/// A circuit of one box.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Net {
    pub(crate) gates: Vec<Gate>,
    pub(crate) outputs: [usize; 4],
}

impl Gate {
    /// Its truth table, given those of its arguments.
    pub(crate) fn of(self, tables: &[u64]) -> u64 {
        let [a, b, c] = self.from.map(|from| tables[from]);
        (0..8).filter(|i| self.table >> i & 1 == 1).fold(0, |sum, i| {
            let side = |bit: u8, x: u64| if i >> bit & 1 == 1 { x } else { !x };
            sum | side(2, a) & side(1, b) & side(0, c)
        })
    }
}

impl Net {
    /// The truth tables of inputs and gates.
    pub(crate) fn tables(&self) -> Vec<u64> {
        self.gates.iter().fold(INPUTS.to_vec(), |mut tables, gate| {
            tables.push(gate.of(&tables));
            tables
        })
    }

    /// The truth tables of the outputs.
    pub(crate) fn computes(&self) -> [u64; 4] {
        let tables = self.tables();
        self.outputs.map(|output| tables[output])
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The source of `src/des/boxes.rs`.
pub(crate) fn source(nets: &[Net]) -> String {
    let count: usize = nets.iter().map(|net| net.gates.len()).sum();
    let mut out = format!(
        "//! The S-boxes of DES as circuits: {count} look-ups of three bits. Written by `cargo run -p lanes --example circuits`.\n\n\
         use crate::bits::Bits;\n"
    );
    let name = |at: usize| NAMES.get(at).map_or_else(|| format!("g{at}"), |name| (*name).to_owned());
    for (at, net) in nets.iter().enumerate() {
        let box_ = at + 1;
        out.extend([
            format!("\n/// S{box_}: {} look-ups.\n#[inline(always)]\n", net.gates.len()),
            format!("pub(super) fn s{box_}<V: Bits>([a, b, c, d, e, f]: [V; 6]) -> [V; 4] {{\n"),
        ]);
        out.extend(net.gates.iter().zip(6..).map(|(gate, at)| {
            let [a, b, c] = gate.from.map(name);
            format!("    let g{at} = V::lut::<0x{:02x}>({a}, {b}, {c});\n", gate.table)
        }));
        out.extend([format!("    [{}]\n}}\n", net.outputs.map(name).join(", "))]);
    }
    out
}

/// The circuits in that source.
pub(crate) fn read(source: &str) -> Vec<Net> {
    let node = |name: &str| {
        let name = name.trim();
        let input = NAMES.iter().position(|input| *input == name);
        input.unwrap_or_else(|| {
            name.trim_start_matches('g').parse().expect("a gate's name is g and its number")
        })
    };
    let mut nets: Vec<Net> = Vec::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("pub(super) fn") {
            nets.push(Net { gates: Vec::new(), outputs: [0; 4] });
        }
        let Some(net) = nets.last_mut() else { continue };
        if let Some((_, look_up)) = line.split_once("V::lut::<0x") {
            let (table, from) = look_up.split_once(">(").expect("a look-up has arguments");
            let from: Vec<usize> = from.trim_end_matches(");").split(',').map(node).collect();
            let table = u8::from_str_radix(table, 16).expect("a table has two hex digits");
            net.gates.push(Gate { table, from: from.try_into().expect("a look-up has three arguments") });
        } else if let Some(outputs) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let outputs: Vec<usize> = outputs.split(',').map(node).collect();
            net.outputs = outputs.try_into().expect("a box has four outputs");
        }
    }
    nets
}
