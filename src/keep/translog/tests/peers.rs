//! What other implementations make of our cosignatures and quorums: `sigsum` checks the bytes that witnesses sign and
//! counts groups, `signed_note` reads the lines.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::support::Leaves;
    use ed25519_dalek::{Signer as _, SigningKey};
    use sha2::{Digest as _, Sha256};
    use signed_note::{Note, Signature, StandardVerifier, Verifier, VerifierList, key_id};
    use translog::cosign::{cosign, cosigned_at};
    use translog::note::{Checkpoint, VerifierKey, WitnessKey, sign_checkpoint};
    use translog::policy::Policy;
    use translog::tree::{Frontier, Hash, inclusion_path, leaf_hash};

    const TIME: u64 = 1_700_000_000;
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> [u8; 32] {
        key(seed).verifying_key().to_bytes()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn sha256(bytes: &[u8]) -> Hash {
        Sha256::digest(bytes).into()
    }

    fn witness(at: usize) -> (String, SigningKey) {
        (format!("w.example/{}", NAMES[at]), key(10 + u8::try_from(at).unwrap()))
    }

    /// Quorums over the four witnesses, in the words that both kinds of policy share.
    const QUORUMS: [&str; 6] = [
        "quorum none",
        "quorum c",
        "group g 2 a b c\nquorum g",
        "group g all a b c d\nquorum g",
        "group g any a b\ngroup h all g c d\nquorum h",
        "group g all a b\ngroup h 2 c d\ngroup i any g h\nquorum i",
    ];

    fn ours(quorum: &str) -> Policy {
        let mut text = format!("log {}\n", VerifierKey::new(&origin(), public(1)));
        for (at, name) in NAMES.iter().enumerate() {
            let (line, key) = witness(at);
            writeln!(text, "witness {name} {}", WitnessKey::new(&line, key.verifying_key().to_bytes()))
                .unwrap();
        }
        Policy::parse(&(text + quorum)).unwrap()
    }

    fn theirs(quorum: &str) -> sigsum::Policy {
        let mut text = format!("log {}\n", hex(&public(1)));
        for (at, name) in NAMES.iter().enumerate() {
            writeln!(text, "witness {name} {}", hex(&witness(at).1.verifying_key().to_bytes())).unwrap();
        }
        sigsum::Policy::parse(&(text + quorum)).unwrap()
    }

    /// The origin that a sigsum log with this key has.
    fn origin() -> String {
        format!("sigsum.org/v1/tree/{}", hex(&sha256(&public(1))))
    }

    /// The bytes that follow the key id in a note's line.
    fn signature_of(line: &str) -> Vec<u8> {
        Signature::from_bytes(line.trim_end().as_bytes()).unwrap().signature().to_vec()
    }

    /// A sigsum log of seven leaves whose tree, head and cosignatures are all ours; `by` are witnesses by number.
    fn sigsum_proof(message: &Hash, by: &[usize]) -> String {
        let checksum = sha256(message);
        let signer = key(2).sign(&[b"sigsum.org/v1/tree-leaf\0".as_slice(), &checksum].concat()).to_bytes();
        let signer_hash = sha256(&public(2));
        let entry = [checksum.as_slice(), &signer, &signer_hash].concat();
        let leaves: Vec<Hash> = (0..7_u8).map(|i| leaf_hash(if i == 3 { &entry } else { &[0; 1] })).collect();
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        let head = Checkpoint { origin: origin(), size: 7, root: frontier.root() };
        let note = sign_checkpoint(&head, &key(1));
        let log_signature = signature_of(note.lines().last().unwrap());
        let mut text = format!(
            "version=2\nlog={}\nleaf={} {}\n\nsize=7\nroot_hash={}\nsignature={}\n",
            hex(&sha256(&public(1))),
            hex(&signer_hash),
            hex(&signer),
            hex(&head.root),
            hex(&log_signature)
        );
        for &at in by {
            let (name, key) = witness(at);
            let time = TIME + at as u64;
            let signature = signature_of(&cosign(&head, &name, &key, time));
            let (hash, signature) = (sha256(&key.verifying_key().to_bytes()), hex(&signature[8..]));
            writeln!(text, "cosignature={} {time} {signature}", hex(&hash)).unwrap();
        }
        let Ok(path) = inclusion_path(&Leaves(leaves), 3, 7);
        text.push_str("\nleaf_index=3\n");
        path.iter().for_each(|hash| writeln!(text, "node_hash={}", hex(hash)).unwrap());
        text
    }

    /// Every set of the four witnesses.
    fn sets() -> impl Iterator<Item = Vec<usize>> {
        (0..1 << NAMES.len()).map(|set: u32| (0..NAMES.len()).filter(|at| set >> at & 1 == 1).collect())
    }

    #[test]
    fn sigsum_accepts_our_heads_under_every_quorum_that_we_say_is_met_and_no_other() {
        let message = sha256(b"a file");
        let mut met = 0;
        for quorum in QUORUMS {
            let (ours, theirs) = (ours(quorum), theirs(quorum));
            for by in sets() {
                let proof = sigsum::SigsumSignature::from_ascii(&sigsum_proof(&message, &by)).unwrap();
                let signers = [public(2).into()];
                let verified = sigsum::verify(&message.into(), &proof, &signers, &theirs);
                let counts = ours.is_met(|name| by.iter().any(|&at| NAMES[at] == name));
                assert_eq!(verified.is_ok(), counts, "{quorum} by {by:?}: {verified:?}");
                met += usize::from(counts);
            }
        }
        assert!(met > 16 && met < 16 * QUORUMS.len(), "both answers were seen");
    }

    #[test]
    fn sigsum_refuses_a_cosignature_with_another_time() {
        let message = sha256(b"a file");
        let text = sigsum_proof(&message, &[2]);
        let verify = |text: &str| {
            let proof = sigsum::SigsumSignature::from_ascii(text).unwrap();
            sigsum::verify(&message.into(), &proof, &[public(2).into()], &theirs("quorum c"))
        };
        verify(&text).unwrap();
        let later = text.replace(&(TIME + 2).to_string(), &(TIME + 3).to_string());
        assert!(later != text && verify(&later).is_err());
    }

    /// A verifier of cosignatures by the means of `signed_note`: its key id, its Ed25519.
    struct Cosignature {
        name: String,
        public: [u8; 32],
        text: String,
    }

    impl Verifier for Cosignature {
        fn name(&self) -> &str {
            &self.name
        }

        fn key_id(&self) -> u32 {
            key_id(&self.name, &[[4].as_slice(), &self.public].concat())
        }

        fn verify(&self, msg: &[u8], sig: &[u8]) -> bool {
            let Some((time, signature)) = sig.split_first_chunk::<8>() else {
                return false;
            };
            let time = u64::from_be_bytes(*time);
            let message = [format!("cosignature/v1\ntime {time}\n").as_bytes(), msg].concat();
            // Their Ed25519, reached by a vkey of the plain kind.
            let plain = VerifierKey::new(&self.name, self.public).to_string();
            let plain = StandardVerifier::new(&plain).unwrap();
            msg == self.text.as_bytes() && plain.verify(&message, signature)
        }
    }

    #[test]
    fn signed_note_finds_log_and_witness_in_a_cosigned_note() {
        let head = Checkpoint { origin: "hsm.example/audit-1".to_owned(), size: 9, root: [7; 32] };
        let (name, witness_key) = witness(0);
        let note = sign_checkpoint(&head, &key(1)) + &cosign(&head, &name, &witness_key, TIME);
        let public_key = witness_key.verifying_key().to_bytes();
        let verifiers = || {
            let log = StandardVerifier::new(&VerifierKey::new(&head.origin, public(1)).to_string()).unwrap();
            let cosigner = Cosignature { name: name.clone(), public: public_key, text: head.to_text() };
            VerifierList::new(vec![Box::new(log), Box::new(cosigner)])
        };
        let (good, unknown) = Note::from_bytes(note.as_bytes()).unwrap().verify(&verifiers()).unwrap();
        assert_eq!((good.len(), unknown.len()), (2, 0));
        assert_eq!(cosigned_at(&note, &WitnessKey::new(&name, public_key)), Ok(Some(TIME)));

        let other = Checkpoint { size: 10, ..head.clone() };
        let bad = sign_checkpoint(&head, &key(1)) + &cosign(&other, &name, &witness_key, TIME);
        assert!(Note::from_bytes(bad.as_bytes()).unwrap().verify(&verifiers()).is_err());
        assert!(cosigned_at(&bad, &WitnessKey::new(&name, public_key)).is_err());
    }
}
