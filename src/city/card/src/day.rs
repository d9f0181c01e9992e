//! A practice day, line by line.

use std::collections::VecDeque;

use wire::batch::Verdict;
use wire::key::KeyVersion;
use wire::purse::{F1Line, PurchaseTac, bcd};

use crate::damage;
use crate::keys::{CardKey, PracticeKeys};
use crate::line::Fields;
use crate::random::Random;

const DATE: [u8; 4] = [0x20, 0x26, 0x01, 0x31];
/// Nine of ten cards are the city's own.
const ISSUERS: [[u8; 8]; 2] =
    [[0x12, 0x34, 0x26, 0x40, 0x00, 0x00, 0x26, 0x40], [0x90, 0x01, 0x26, 0x40, 0x00, 0x00, 0x00, 0x01]];
const LINES_PER_CARD: u64 = 8;
const LINES_PER_TERMINAL: u64 = 330;
/// Half of the module's default budget, since from the sixteenth wrong TAC on even a true one is withheld.
const WRONG_PER_CARD: u32 = 8;
/// A quarter of the module's default budget for one key version.
const WRONG_PER_DAY: u64 = 1 << 18;
/// A repetition is of one of the last so many lines.
const RECENT: usize = 512;
const FARES: [u32; 6] = [100, 150, 200, 450, 600, 1000];

/// One line and what must come of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct DayLine {
    /// Without its LF.
    pub bytes: Vec<u8>,
    /// The verdict that the module must give.
    pub expected: Verdict,
}

/// Makes a practice day: an iterator over its lines.
#[derive(Debug)]
pub struct Day<'k> {
    keys: &'k PracticeKeys,
    random: Random,
    lines: u64,
    number: u64,
    known: Vec<KeyVersion>,
    unknown: Vec<KeyVersion>,
    cards: Vec<Card>,
    terminals: Vec<Terminal>,
    plans: [Plan; 5],
    due: VecDeque<Kind>,
    damages: usize,
    wrong: u64,
    recent: VecDeque<DayLine>,
}

struct Card {
    digits: String,
    factor: [u8; 8],
    issuer: [u8; 8],
    version: KeyVersion,
    key: CardKey,
    kind: u64,
    balance: u32,
    counter: u16,
    wrong: u32,
}

impl core::fmt::Debug for Card {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Card").field("factor", &self.factor).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Terminal {
    id: [u8; 6],
    sequence: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    BadTac,
    LowerCase,
    Malformed,
    Repeated,
    UnknownKey,
}

/// Spreads a kind over the day: one at a random place of every stretch of `every` lines.
#[derive(Debug)]
struct Plan {
    kind: Kind,
    every: u64,
    next: u64,
}

impl Plan {
    /// `per_million` lines of the day, and `least` if the day is long enough for them.
    fn new(kind: Kind, lines: u64, per_million: u64, least: u64) -> Self {
        let share =
            u64::try_from(u128::from(lines) * u128::from(per_million) / 1_000_000).unwrap_or(u64::MAX);
        let count = share.max(least.min(lines / 4)).max(1);
        Self { kind, every: (lines / count).max(1), next: 0 }
    }

    fn is_due(&mut self, number: u64, random: &mut Random) -> bool {
        if number.is_multiple_of(self.every) {
            self.next = number + random.below(self.every);
        }
        number == self.next
    }
}

impl<'k> Day<'k> {
    /// A day of `lines` lines.
    pub fn new(keys: &'k PracticeKeys, lines: u64, mut random: Random) -> Self {
        let known: Vec<KeyVersion> = keys.versions().collect();
        let likely = [0x00, 0x03, 0x43, 0xff];
        let unknown = likely.into_iter().chain(0..=0xfe).map(KeyVersion);
        let unknown = unknown.filter(|version| !known.contains(version)).take(likely.len()).collect();
        let terminals = (0..(lines / LINES_PER_TERMINAL).clamp(4, 2000)).map(|_| Terminal {
            id: random.bytes(),
            // Room for the whole day below the nine digits that the field has.
            sequence: u32::try_from(1_000_000 + random.below(400_000_000)).unwrap_or_default(),
        });
        let terminals = terminals.collect();
        let plans = [
            Plan::new(Kind::BadTac, lines, 3000, 4),
            Plan::new(Kind::UnknownKey, lines, 1000, 4),
            Plan::new(Kind::Malformed, lines, 600, damage::ALL.len() as u64),
            Plan::new(Kind::Repeated, lines, 3000, 4),
            Plan::new(Kind::LowerCase, lines, 5000, 4),
        ];
        let mut day = Self {
            keys,
            random,
            lines,
            number: 0,
            known,
            unknown,
            cards: Vec::new(),
            terminals,
            plans,
            due: VecDeque::new(),
            damages: 0,
            wrong: 0,
            recent: VecDeque::with_capacity(RECENT),
        };
        let cards = lines.div_ceil(LINES_PER_CARD).max(1);
        day.cards = (0..cards).filter_map(|_| day.new_card()).collect();
        day
    }

    fn new_card(&mut self) -> Option<Card> {
        let random = &mut self.random;
        let prefix = ["26", "31", "99"].get(random.place(3))?;
        let digits = format!("{prefix}{:014}", random.below(100_000_000_000_000));
        let factor = bcd(digits.as_bytes())?;
        let issuer = *ISSUERS.get(usize::from(random.below(10) == 0))?;
        let version = *self.known.get(random.place(self.known.len()))?;
        Some(Card {
            key: self.keys.card_key(version, &issuer, &factor)?,
            digits,
            factor,
            issuer,
            version,
            kind: 1 + random.below(3),
            balance: u32::try_from(random.below(100_000)).ok()?,
            counter: u16::from_be_bytes(random.bytes()),
            wrong: 0,
        })
    }

    fn make(&mut self, kind: Option<Kind>) -> Option<DayLine> {
        if kind == Some(Kind::Repeated)
            && let Some(earlier) = self.recent.get(self.random.place(self.recent.len()))
        {
            return Some(earlier.clone());
        }
        let (mut bytes, expected) = self.transaction(kind)?;
        match kind {
            Some(Kind::LowerCase) => bytes.iter_mut().skip(71).take(122).for_each(u8::make_ascii_lowercase),
            Some(Kind::Malformed) => {
                let damage = *damage::ALL.get(self.damages % damage::ALL.len())?;
                self.damages += 1;
                damage.apply(&mut bytes, &mut self.random);
                return Some(DayLine { bytes, expected: Verdict::Malformed });
            }
            _ => {}
        }
        Some(DayLine { bytes, expected })
    }

    fn transaction(&mut self, kind: Option<Kind>) -> Option<(Vec<u8>, Verdict)> {
        let random = &mut self.random;
        let card = random.place(self.cards.len());
        let card = self.cards.get_mut(card)?;
        let terminal = random.place(self.terminals.len());
        let terminal = self.terminals.get_mut(terminal)?;
        let amount = *FARES.get(random.place(FARES.len()))?;
        if card.balance < amount {
            card.balance += 50_000;
        }
        let seconds = 5 * 3600 + random.below(18 * 3600);
        let purchase = PurchaseTac {
            amount,
            kind: if random.below(4) == 0 { 0x09 } else { 0x06 },
            terminal: terminal.id,
            sequence: terminal.sequence,
            date: DATE,
            time: [seconds / 3600, seconds / 60 % 60, seconds % 60].map(bcd_byte),
        };
        let mut tac = card.key.purchase_tac(&purchase.data());
        let (mut version, mut expected) = (card.version, Verdict::Ok);
        if kind == Some(Kind::UnknownKey) {
            version = *self.unknown.get(random.place(self.unknown.len()))?;
            expected = Verdict::UnknownKey;
        }
        if kind == Some(Kind::BadTac) && card.wrong < WRONG_PER_CARD && self.wrong < WRONG_PER_DAY {
            let bit = random.place(32);
            *tac.get_mut(bit / 8)? ^= 1 << (bit % 8);
            card.wrong += 1;
            self.wrong += 1;
            expected = Verdict::BadTac;
        }
        let fields = Fields {
            number: self.number,
            card: &card.digits,
            card_kind: card.kind,
            balance_before: card.balance,
            purchase,
            tac,
            version,
            counter: card.counter,
            issuer: card.issuer,
            route: random.below(121),
            vehicle: 1 + random.below(1300),
            driver: random.below(100_000_000),
            random: random.bytes(),
        };
        let bytes = fields.render();
        card.balance -= amount;
        card.counter = card.counter.wrapping_add(1);
        terminal.sequence += 1;
        Some((bytes, expected))
    }

    fn remember(&mut self, line: &DayLine) {
        // A malformed line repeated would be a second damage of the same kind, not a duplicate transaction.
        if F1Line::parse(&line.bytes).is_some() {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(line.clone());
        }
    }
}

impl Iterator for Day<'_> {
    type Item = DayLine;

    fn next(&mut self) -> Option<DayLine> {
        if self.number == self.lines {
            return None;
        }
        for plan in &mut self.plans {
            if plan.is_due(self.number, &mut self.random) {
                self.due.push_back(plan.kind);
            }
        }
        let kind = self.due.pop_front();
        let line = self.make(kind)?;
        self.remember(&line);
        self.number += 1;
        Some(line)
    }
}

fn bcd_byte(value: u64) -> u8 {
    u8::try_from(value / 10 * 16 + value % 10).unwrap_or_default()
}
