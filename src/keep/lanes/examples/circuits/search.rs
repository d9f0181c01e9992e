//! Finds shorter circuits: a random walk over circuits that compute the same.

use crate::net::{Gate, Net};

/// xorshift64*: a walk is repeatable from its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Takes one step: a gate gives way to an existing one, to another look-up, or to two, that agree with it wherever an output
/// depends on it. Gates that nobody needs any more go.
pub(crate) fn step(net: &mut Net, target: &[u64; 4], random: &mut Random) {
    let tables = net.tables();
    let gate = 6 + random.below(net.gates.len());
    let care = depends(net, &tables, gate, target);
    let (on, off) = (tables[gate] & care, !tables[gate] & care);
    let after = descendants(net, gate);
    let alone = needed_by(net, gate);
    let two = alone.len() > 1 && random.below(300) == 0;
    let without = two || random.below(3) == 0;
    let mut choice: Vec<usize> =
        (0..tables.len()).filter(|at| !(after[*at] || without && alone.contains(at))).collect();
    random.shuffle(&mut choice);
    if let Some(same) = choice.iter().find(|at| tables[**at] & off == 0 && on & !tables[**at] == 0) {
        replace(net, gate, *same);
    } else if two {
        if let Some((first, table, [d, e])) = pair(&tables, &choice, on, off, random) {
            net.gates.push(first);
            net.gates[gate - 6] = Gate { table, from: [d, e, 6 + net.gates.len() - 1] };
        }
    } else if let Some(other) = single(&tables, &choice, on, off, random) {
        net.gates[gate - 6] = other;
    }
    tidy(net);
}

/// The arguments at which some output changes if the gate does.
fn depends(net: &Net, tables: &[u64], gate: usize, target: &[u64; 4]) -> u64 {
    let mut tables = tables.to_vec();
    tables[gate] = !tables[gate];
    for at in gate + 1..tables.len() {
        tables[at] = net.gates[at - 6].of(&tables);
    }
    net.outputs.iter().zip(target).fold(0, |sum, (output, table)| sum | tables[*output] ^ table)
}

fn descendants(net: &Net, gate: usize) -> Vec<bool> {
    let mut after = vec![false; 6 + net.gates.len()];
    after[gate] = true;
    for at in gate + 1..after.len() {
        after[at] = net.gates[at - 6].from.iter().any(|from| after[*from]);
    }
    after
}

/// The gate, and those that only it needs.
fn needed_by(net: &Net, gate: usize) -> Vec<usize> {
    let mut uses = vec![0; 6 + net.gates.len()];
    for from in net.gates.iter().flat_map(|gate| gate.from).chain(net.outputs) {
        uses[from] += 1;
    }
    let (mut found, mut next) = (Vec::new(), vec![gate]);
    while let Some(at) = next.pop() {
        found.push(at);
        for from in net.gates[at - 6].from {
            uses[from] -= 1;
            if uses[from] == 0 && from >= 6 {
                next.push(from);
            }
        }
    }
    found
}

fn replace(net: &mut Net, gate: usize, by: usize) {
    let places = net.gates.iter_mut().flat_map(|gate| &mut gate.from).chain(&mut net.outputs);
    places.filter(|at| **at == gate).for_each(|at| *at = by);
}

/// The cells that three tables divide the arguments into, cut down to `within`.
fn cells(tables: [u64; 3], within: u64) -> [u64; 8] {
    std::array::from_fn(|i| {
        let side = |bit: usize, x: u64| if i >> bit & 1 == 1 { x } else { !x };
        side(2, tables[0]) & side(1, tables[1]) & side(0, tables[2]) & within
    })
}

fn mask(cells: &[u64; 8], within: u64) -> u8 {
    (0..8).filter(|i| cells[*i] & within != 0).fold(0, |sum, i| sum | 1 << i)
}

/// A look-up that is one in `on` and zero in `off`. What it is elsewhere is left to chance.
fn single(tables: &[u64], choice: &[usize], on: u64, off: u64, random: &mut Random) -> Option<Gate> {
    for (i, a) in choice.iter().enumerate() {
        for (j, b) in choice.iter().enumerate().skip(i + 1) {
            for c in &choice[j + 1..] {
                let cells = cells([tables[*a], tables[*b], tables[*c]], !0);
                let (ones, zeros) = (mask(&cells, on), mask(&cells, off));
                if ones & zeros == 0 {
                    let chance = random.next().to_le_bytes()[0];
                    return Some(Gate { table: ones | chance & !zeros, from: [*a, *b, *c] });
                }
            }
        }
    }
    None
}

/// Two look-ups: x = f(a, b, c) and g(d, e, x). Comes as the first one, and table and other arguments of the second.
fn pair(
    tables: &[u64],
    choice: &[usize],
    on: u64,
    off: u64,
    random: &mut Random,
) -> Option<(Gate, u8, [usize; 2])> {
    for (i, d) in choice.iter().enumerate() {
        for e in &choice[i + 1..] {
            let (d_table, e_table) = (tables[*d], tables[*e]);
            let quarters = [!d_table & !e_table, !d_table & e_table, d_table & !e_table, d_table & e_table];
            // Where a quarter has ones and zeros, x must tell them apart: x is the function there, or its complement.
            let mixed = quarters.map(|quarter| quarter & on != 0 && quarter & off != 0);
            for signs in (0_u8..16).step_by(2) {
                let (mut ones, mut zeros) = (0, 0);
                for (q, quarter) in quarters.iter().enumerate().filter(|(q, _)| mixed[*q]) {
                    let (one, zero) = if signs >> q & 1 == 1 { (off, on) } else { (on, off) };
                    ones |= one & quarter;
                    zeros |= zero & quarter;
                }
                if let Some(first) = single(tables, choice, ones, zeros, random) {
                    let x = first.of(tables);
                    let cells = cells([d_table, e_table, x], !0);
                    let (ones, zeros) = (mask(&cells, on), mask(&cells, off));
                    if ones & zeros == 0 {
                        return Some((first, ones | random.next().to_le_bytes()[0] & !zeros, [*d, *e]));
                    }
                }
            }
        }
    }
    None
}

/// Numbers the gates in an order in which each comes after its arguments; those that no output needs are left out.
pub(crate) fn tidy(net: &mut Net) {
    fn visit(at: usize, old: &Net, new: &mut Vec<Gate>, places: &mut [Option<usize>]) -> usize {
        if at < 6 {
            return at;
        }
        if let Some(place) = places[at] {
            return place;
        }
        let Gate { table, from } = old.gates[at - 6];
        let from = from.map(|from| visit(from, old, new, places));
        new.push(Gate { table, from });
        places[at] = Some(5 + new.len());
        5 + new.len()
    }
    let (mut gates, mut places) = (Vec::new(), vec![None; 6 + net.gates.len()]);
    let outputs = net.outputs.map(|output| visit(output, net, &mut gates, &mut places));
    *net = Net { gates, outputs };
}

/// A circuit without any art, as a start: each output by choosing between its halves, input by input.
pub(crate) fn plain(target: &[u64; 4]) -> Net {
    fn of(net: &mut Net, table: u64, depth: usize, within: u64) -> usize {
        if depth == 3 {
            let tables = net.tables();
            let cells = cells([tables[3], tables[4], tables[5]], within);
            net.gates.push(Gate { table: mask(&cells, table), from: [3, 4, 5] });
        } else {
            let input = crate::net::INPUTS[depth];
            let low = of(net, table, depth + 1, within & !input);
            let high = of(net, table, depth + 1, within & input);
            // input ? high : low
            net.gates.push(Gate { table: 0b1010_1100, from: [depth, low, high] });
        }
        5 + net.gates.len()
    }
    let mut net = Net { gates: Vec::new(), outputs: [0; 4] };
    net.outputs = target.map(|table| of(&mut net, table, 0, !0));
    net
}
