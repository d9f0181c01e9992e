//! The published vectors (SPEC.md §Vectors), every proof of every small tree, and another implementation's judgement.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use crate::support::Leaves;
    use base64ct::{Base64, Encoding as _};
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};
    use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
    use translog::note::{Checkpoint, NoteError, VerifierKey, open_checkpoint, sign_checkpoint};
    use translog::proof::{ProofError, TlogProof};
    use translog::tile::{Tile, decode_bundle, decode_hashes, encode_bundle, encode_hashes};
    use translog::tree::{
        Frontier, Hash, HashReader, consistency_proof, empty_root, inclusion_path, leaf_hash, node_hash,
        root_from_inclusion, verify_consistency, verify_inclusion,
    };

    const NAME: &str = "hsm.example/audit-1";
    const VKEY: &str = "hsm.example/audit-1+651737db+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    const WITNESS: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";
    const NOTE: &str = "hsm.example/audit-1\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\
        — hsm.example/audit-1 ZRc328nN2JkxRdAAYmYv3K453CUxy4ezNNTcHMwjqlvEc1HgvJOrQWtIMvkUqqFrtwojngV1SGmyOMvWqiVq5lc9LQA=\n\
        — witness.example/w1 IDJKvgAAAABlU/EA057p5khAWTUjToGPLb9299ATjAWZ/gCTUjz6B/5dEWuw7IpR2chg78M5ojmfFthusWjktvyWb2FHWpl75an/DQ==\n";
    const ROOT_3: &str = "a64bf26e09128f6fe2fe6f8b2d8c801e166b57c047a7cd9b2b809e7a96a2f1cb";
    const ROOT_7: &str = "9139601cc1ca8ab2a7a0c2c134c04845f2b1ba549a83d6c845cfcda439cc585d";
    const INCLUSION_3_7: [&str; 3] = [
        "049d7dcdb56bcfebd313304c9839f196a3d4b6ef3bdc0b08298f93ac8191f0a8",
        "2f27a5082c1d42afa488ac350a9fc4390c084f54f71ecdff859e98db8429b479",
        "e429c5b5ccaa9523c37297f1846766f903137e82195c5199e6be57130d1006c8",
    ];
    const EXTRA_3_7: &str = "27479b6ab321d2ee477452f68ba527748e863cafe8fbd1df2bf89d1570d1b697";

    fn hash(hex: &str) -> Hash {
        wire::purse::hex(hex.as_bytes()).unwrap()
    }

    fn key() -> SigningKey {
        let seed: Vec<u8> = (0..32).collect();
        SigningKey::from_bytes(&seed.try_into().unwrap())
    }

    fn entries(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|at| format!("entry-{at}").into_bytes()).collect()
    }

    /// The definition of RFC 6962 §2.1.
    impl Leaves {
        fn new(count: usize) -> Self {
            Self(entries(count).iter().map(|entry| leaf_hash(entry)).collect())
        }

        fn root(&self, size: usize) -> Hash {
            fn root(leaves: &[Hash]) -> Hash {
                match leaves {
                    [] => empty_root(),
                    [leaf] => *leaf,
                    _ => {
                        let (left, right) = leaves.split_at(leaves.len().div_ceil(2).next_power_of_two());
                        node_hash(&root(left), &root(right))
                    }
                }
            }
            root(&self.0[..size])
        }
    }

    fn edge(size: usize) -> Frontier {
        let mut frontier = Frontier::new();
        Leaves::new(size).0.into_iter().for_each(|leaf| frontier.push(leaf));
        frontier
    }

    #[test]
    fn roots_and_proofs() {
        assert_eq!(
            leaf_hash(b"entry-0"),
            hash("40766b2033429026f53d54502679a839706b4741f8dcaf3a8bba5f41b5ffe075")
        );
        assert_eq!(edge(3).root(), hash(ROOT_3));
        assert_eq!(edge(7).root(), hash(ROOT_7));
        assert_eq!(edge(0).root(), hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        let tree = Leaves::new(7);
        let inclusion = INCLUSION_3_7.map(hash);
        assert_eq!(inclusion_path(&tree, 3, 7).unwrap(), inclusion);
        assert!(verify_inclusion(&leaf_hash(b"entry-3"), 3, 7, &inclusion, &hash(ROOT_7)));
        let mut consistency = inclusion.to_vec();
        consistency.insert(1, hash(EXTRA_3_7));
        // The old root of size 3 is no complete subtree: its right leaf comes first.
        assert_eq!(consistency_proof(&tree, 3, 7).unwrap().len(), 4);
        assert!(verify_consistency(
            3,
            7,
            &hash(ROOT_3),
            &hash(ROOT_7),
            &consistency_proof(&tree, 3, 7).unwrap()
        ));
        assert_eq!(consistency_proof(&tree, 3, 7).unwrap(), consistency);
    }

    #[test]
    fn every_inclusion_proof_of_small_trees_and_nothing_else() {
        let tree = Leaves::new(69);
        for size in 1..=69_u64 {
            let root = tree.root(usize::try_from(size).unwrap());
            assert_eq!(edge(usize::try_from(size).unwrap()).root(), root);
            for index in 0..size {
                let leaf = tree.subtree(0, index).unwrap();
                let path = inclusion_path(&tree, index, size).unwrap();
                assert!(verify_inclusion(&leaf, index, size, &path, &root), "{index} in {size}");
                for other in (0..size).filter(|other| *other != index) {
                    assert!(!verify_inclusion(&leaf, other, size, &path, &root));
                }
                for at in 0..path.len() {
                    let mut bad = path.clone();
                    bad[at][0] ^= 1;
                    assert!(!verify_inclusion(&leaf, index, size, &bad, &root));
                }
                let longer = [path.as_slice(), &[root]].concat();
                assert_eq!(root_from_inclusion(&leaf, index, size, &longer), None);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(root_from_inclusion(&leaf, index, size, shorter), None);
                }
            }
            assert_eq!(root_from_inclusion(&root, size, size, &[]), None);
            assert!(inclusion_path(&tree, size, size).unwrap().is_empty());
        }
        assert_eq!(root_from_inclusion(&hash(ROOT_3), 0, 0, &[]), None);
    }

    #[test]
    fn every_consistency_proof_of_small_trees_and_nothing_else() {
        let tree = Leaves::new(69);
        let root = |size: u64| tree.root(usize::try_from(size).unwrap());
        for new in 1..=69 {
            for old in 0..=new {
                let proof = consistency_proof(&tree, old, new).unwrap();
                assert!(verify_consistency(old, new, &root(old), &root(new), &proof), "{old} {new}");
                let mut wrong = root(new);
                wrong[31] ^= 1;
                // The empty tree is a prefix of anything.
                assert_eq!(verify_consistency(old, new, &root(old), &wrong, &proof), old == 0);
                assert!(!verify_consistency(old, new, &wrong, &root(new), &proof));
                let longer = [proof.as_slice(), &[wrong]].concat();
                assert!(!verify_consistency(old, new, &root(old), &root(new), &longer));
                for at in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[at][0] ^= 1;
                    assert!(!verify_consistency(old, new, &root(old), &root(new), &bad));
                    assert!(!verify_consistency(old, new, &root(old), &root(new), &proof[..at]));
                }
                if old < new {
                    assert!(!verify_consistency(new, old, &root(new), &root(old), &proof));
                }
            }
        }
    }

    #[test]
    fn the_published_note() {
        let vkey = VerifierKey::parse(VKEY).unwrap();
        assert_eq!(VerifierKey::new(NAME, key().verifying_key().to_bytes()), vkey);
        assert_eq!(vkey.to_string(), VKEY);
        let head = open_checkpoint(NOTE, &vkey).unwrap();
        assert_eq!(head.unknown_signatures(), 1, "the witness");
        assert_eq!((head.origin.as_str(), head.size, head.root), (NAME, 7, hash(ROOT_7)));
        let ours = sign_checkpoint(head.checkpoint(), &key());
        assert!(NOTE.starts_with(&ours), "the same text and the same first line");
        assert_eq!(VerifierKey::parse(WITNESS), Err(NoteError::VerifierKey), "another type of key");
    }

    #[test]
    fn another_implementation_agrees() {
        let head = Checkpoint { origin: "log.weihai.example/node-1".into(), size: 12, root: hash(ROOT_7) };
        let vkey = VerifierKey::new(&head.origin, key().verifying_key().to_bytes()).to_string();
        let verifier = StandardVerifier::new(&vkey).unwrap();
        assert_eq!(verifier.name(), head.origin);
        let note = Note::from_bytes(sign_checkpoint(&head, &key()).as_bytes()).unwrap();
        let (good, unknown) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        assert_eq!((good.len(), unknown.len()), (1, 0));
        assert_eq!(note.text(), head.to_text().as_bytes());

        let theirs = Note::from_bytes(NOTE.as_bytes()).unwrap();
        let verifier = StandardVerifier::new(VKEY).unwrap();
        let (good, unknown) = theirs.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        assert_eq!((good.len(), unknown.len()), (1, 1));
    }

    #[test]
    fn every_changed_bit_of_a_note_sinks_it() {
        let vkey = VerifierKey::parse(VKEY).unwrap();
        let (ours, _) = NOTE.split_at(NOTE.find("— witness").unwrap());
        open_checkpoint(ours, &vkey).unwrap();
        for bit in 0..ours.len() * 8 {
            let mut bad = ours.as_bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let refused = String::from_utf8(bad).map_or(true, |bad| open_checkpoint(&bad, &vkey).is_err());
            assert!(refused, "bit {bit}");
        }
        for len in 0..ours.len() {
            if ours.is_char_boundary(len) {
                assert!(open_checkpoint(&ours[..len], &vkey).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn notes_that_are_refused() {
        let vkey = VerifierKey::parse(VKEY).unwrap();
        let line = NOTE.lines().nth(4).unwrap();
        let signed = |text: &str| {
            use ed25519_dalek::Signer as _;
            let id: [u8; 4] =
                Base64::decode_vec(line.rsplit(' ').next().unwrap()).unwrap()[..4].try_into().unwrap();
            let signature = [id.as_slice(), &key().sign(text.as_bytes()).to_bytes()].concat();
            format!("{text}\n— {NAME} {}\n", Base64::encode_string(&signature))
        };
        let root = "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=";
        assert!(open_checkpoint(&signed(&format!("{NAME}\n7\n{root}\n")), &vkey).is_ok());
        for text in [
            format!("{NAME}\n07\n{root}\n"),
            format!("{NAME}\n+7\n{root}\n"),
            format!("{NAME}\n\n{root}\n"),
            format!("{NAME}\n9223372036854775808\n{root}\n"),
            format!("{NAME}\n7\n{root}\nextension\n"),
            format!("{NAME}\n7\n{}\n", root.replace("F0=", "F1=")),
            format!("{NAME}\n7\n{}\n", &root[..40]),
            format!("{NAME}\n7\n"),
            "\n".to_owned(),
        ] {
            assert_eq!(open_checkpoint(&signed(&text), &vkey), Err(NoteError::NoCheckpoint), "{text}");
        }
        let other = signed(&format!("other.example/log\n7\n{root}\n"));
        assert_eq!(open_checkpoint(&other, &vkey), Err(NoteError::Origin));
        let text = format!("{NAME}\n7\n{root}\n");
        let good = signed(&text);
        let with = |more: &str| open_checkpoint(&format!("{good}{more}\n"), &vkey);
        assert_eq!(with(line).unwrap().unknown_signatures(), 0, "a good signature twice");
        assert!(with("— other.example/w AAAAAAA=").is_ok());
        for malformed in
            ["", "x", "— ", "— name", "— name AAAA", "— na+me AAAAAAA=", "- other.example/w AAAAAAA="]
        {
            assert_eq!(with(malformed), Err(NoteError::Malformed), "{malformed}");
        }
        let bad = line.replace("ZRc328", "ZRc329");
        assert_eq!(with(&bad), Err(NoteError::BadSignature), "one bad signature by the known key");
        let unsigned = format!("{text}\n— other.example/w AAAAAAA=\n");
        assert_eq!(open_checkpoint(&unsigned, &vkey), Err(NoteError::Unsigned));
        assert_eq!(open_checkpoint(&good.replace('7', "7\r"), &vkey), Err(NoteError::Malformed));
        let many = "— other.example/w AAAAAAA=\n".repeat(100);
        assert_eq!(open_checkpoint(&format!("{good}{many}"), &vkey), Err(NoteError::Malformed));
    }

    #[test]
    fn verifier_keys_have_one_spelling() {
        assert!(VerifierKey::parse(&format!("{VKEY}\n")).is_ok());
        let weak = VerifierKey::new(NAME, {
            let mut identity = [0; 32];
            identity[0] = 1;
            identity
        });
        for bad in [
            VKEY.replace("651737db", "651737DB"),
            VKEY.replace("651737db", "651737dc"),
            VKEY.replace("651737db", ""),
            VKEY.replace("hsm.example", "hsm example"),
            VKEY.replace("hsm.example", "hsm.exampl3"),
            VKEY[..VKEY.len() - 1].to_owned(),
            format!("{VKEY}="),
            format!("{VKEY}\n\n"),
            format!("+{VKEY}"),
            String::new(),
            weak.to_string(),
        ] {
            assert_eq!(VerifierKey::parse(&bad), Err(NoteError::VerifierKey), "{bad}");
        }
        let head = Checkpoint { origin: NAME.into(), size: 1, root: [0; 32] };
        let note = sign_checkpoint(&head, &key());
        assert_eq!(open_checkpoint(&note, &weak), Err(NoteError::Unsigned));
    }

    fn proof() -> TlogProof {
        TlogProof { index: 3, path: INCLUSION_3_7.map(hash).to_vec(), checkpoint: NOTE.to_owned() }
    }

    #[test]
    fn proofs_in_text() {
        let vkey = VerifierKey::parse(VKEY).unwrap();
        let text = proof().to_text();
        assert!(
            text.starts_with(
                "c2sp.org/tlog-proof@v1\nindex 3\nBJ19zbVrz+vTEzBMmDnxlqPUtu873AsIKY+TrIGR8Kg=\n"
            )
        );
        assert!(text.ends_with(&format!("\n\n{NOTE}")));
        assert_eq!(TlogProof::parse(&text), Ok(proof()));
        assert_eq!(proof().verify(&vkey, b"entry-3").unwrap().size, 7);
        let extra = text.replace("index 3", "extra YWJj\nindex 3");
        assert_eq!(TlogProof::parse(&extra), Ok(proof()));
        for bad in [
            text.replace("@v1", "@v2"),
            text.replace("index 3", "index 03"),
            text.replace("index 3", "index -3"),
            text.replace("index 3\n", ""),
            text.replace("index 3", "extra !\nindex 3"),
            text.replace("8Kg=", "8Kh="),
            text.replace("8Kg=\n", "8Kg=\nAAAA\n"),
            text.replacen("\n\n", "\n", 2),
            String::new(),
        ] {
            assert_eq!(TlogProof::parse(&bad), Err(ProofError::Malformed), "{bad}");
        }
    }

    #[test]
    fn proofs_that_do_not_hold() {
        let vkey = VerifierKey::parse(VKEY).unwrap();
        assert_eq!(proof().verify(&vkey, b"entry-4"), Err(ProofError::NotIncluded));
        let mut other = proof();
        other.index = 2;
        assert_eq!(other.verify(&vkey, b"entry-3"), Err(ProofError::NotIncluded));
        let mut short = proof();
        short.path.pop();
        assert_eq!(short.verify(&vkey, b"entry-3"), Err(ProofError::NotIncluded));
        let mut forged = proof();
        forged.checkpoint = forged.checkpoint.replacen('7', "8", 1);
        assert_eq!(forged.verify(&vkey, b"entry-3"), Err(ProofError::Note(NoteError::BadSignature)));
    }

    #[test]
    fn the_published_bundle_and_tile() {
        let entries = entries(7);
        let bundle = encode_bundle(&entries).unwrap();
        assert_eq!(bundle.len(), 63);
        let digest: Hash = Sha256::digest(&bundle).into();
        assert_eq!(digest, hash("0327f91917f94f5ad8edb07c834864a3926394c6f7e12cd5dbfc646403a2847b"));
        assert_eq!(decode_bundle(&bundle, 7).unwrap(), entries);
        let tile = encode_hashes(&Leaves::new(7).0);
        assert_eq!(tile.len(), 224);
        let digest: Hash = Sha256::digest(&tile).into();
        assert_eq!(digest, hash("e99f493b599ba703533533aef52f8c7d065829a1ab763aac3f97a11854400cc9"));
        assert_eq!(decode_hashes(&tile, 7).unwrap(), Leaves::new(7).0);
        for (bytes, width) in [(&bundle[..62], 7), (&bundle[..], 6), (&bundle[..], 8), (&bundle[..1], 0)] {
            assert_eq!(decode_bundle(bytes, width), None);
        }
        assert_eq!(decode_hashes(&tile, 6), None);
        assert_eq!(decode_hashes(&tile[..223], 7), None);
        assert_eq!(encode_bundle(&[vec![0; 65_536]]), None);
        assert!(encode_bundle(&[vec![0; 65_535]]).is_some());
    }

    proptest! {
        #[test]
        fn nothing_makes_a_reader_panic(text in "\\PC{0,300}", bytes: Vec<u8>, width in 0_u64..300, lines in "[-—a-z0-9+/= \n]{0,200}") {
            let vkey = VerifierKey::parse(VKEY).unwrap();
            prop_assert!(open_checkpoint(&text, &vkey).is_err());
            prop_assert!(open_checkpoint(&lines, &vkey).is_err());
            prop_assert!(TlogProof::parse(&lines).is_err());
            prop_assert!(VerifierKey::parse(&lines).is_err());
            if let Some(entries) = decode_bundle(&bytes, width) {
                prop_assert_eq!(encode_bundle(&entries), Some(bytes.clone()));
            }
            if let Some(tile) = Tile::parse(&lines) {
                prop_assert_eq!(tile.to_string(), lines);
            }
        }
    }
}
