//! Reads a kernel's machine code, as objdump prints it.

/// The code of every function of this name, one instruction a line.
pub(crate) fn functions(dump: &str, name: &str) -> Vec<Vec<String>> {
    let (mut found, mut current): (Vec<Vec<String>>, bool) = (Vec::new(), false);
    for line in dump.lines() {
        if let Some(title) = line.strip_suffix(">:") {
            current = title.split_once('<').is_some_and(|(_, title)| title == name);
            if current {
                found.push(Vec::new());
            }
        } else if let (true, Some((_, instruction)), Some(code)) =
            (current, line.split_once('\t'), found.last_mut())
        {
            code.push(instruction.trim().to_owned());
        }
    }
    found
}

/// Instructions by which lane data could reach a general register, a flag, a mask or an address.
///
/// In a kernel, lane data are in vector registers and in memory that vector instructions wrote. Nothing but vector arithmetic
/// and whole moves may touch the registers; no general register may be loaded from where a vector was stored on the stack, or from anywhere
/// else but the stack (saved registers) and the tables of constants (addresses relative to the code, or named by `choice`); and no flags are made
/// but by arithmetic on general registers.
pub(crate) fn leaks(code: &[String]) -> Vec<String> {
    let stored: Vec<(i64, i64)> = code.iter().filter_map(|line| vector_store(line)).collect();
    code.iter().filter(|line| !is_harmless(line, &stored)).cloned().collect()
}

fn is_harmless(line: &str, stored: &[(i64, i64)]) -> bool {
    let (name, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if name.starts_with('v') {
        let whole = [
            "vmov",
            "vpternlog",
            "vpxor",
            "vxor",
            "vpand",
            "vand",
            "vpor",
            "vor",
            "vgf2p8affine",
            "vpbroadcast",
            "vbroadcast",
            "vzeroupper",
        ];
        // A vector move to or from a general register is one of part of it; a broadcast from one is not lane data's way out.
        let general = operands.rsplit(',').next().is_some_and(is_general);
        return whole.iter().any(|allowed| name.starts_with(allowed))
            && !general
            && !name.starts_with("vmovmsk")
            && !operands.contains("%k");
    }
    if operands.contains("mm") || operands.contains("%k") {
        return false;
    }
    // A read of eight bytes of the stack that a vector was stored to.
    let read = operands.rsplit_once(',').map_or(operands, |(from, _)| from);
    match stack_place(read) {
        Some(place) if name.starts_with("mov") => {
            !stored.iter().any(|(at, end)| place < *end && place + 8 > *at)
        }
        _ => true,
    }
}

fn is_general(operand: &str) -> bool {
    operand.starts_with("%r") || operand.starts_with("%e")
}

fn vector_store(line: &str) -> Option<(i64, i64)> {
    let (name, operands) = line.split_once(char::is_whitespace)?;
    let (from, to) = operands.trim().split_once(',')?;
    let width = if from.starts_with("%zmm") { 64 } else { 32 };
    let at = stack_place(to).filter(|_| name.starts_with("vmov") && from.contains("mm"))?;
    Some((at, at + width))
}

fn stack_place(operand: &str) -> Option<i64> {
    let displacement = operand.trim().strip_suffix("(%rsp)")?;
    if displacement.is_empty() {
        return Some(0);
    }
    let (sign, hex) = displacement.strip_prefix('-').map_or((1, displacement), |hex| (-1, hex));
    Some(sign * i64::from_str_radix(hex.strip_prefix("0x")?, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The red control: each way out is seen; what kernels do is not.
    #[test]
    fn ways_out_are_seen() {
        let sees =
            |lines: &[&str]| leaks(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()).len();
        for way in [
            "vmovd  %xmm1,%eax",
            "vmovq  %xmm1,%rax",
            "vpextrb $0x3,%xmm1,%ecx",
            "vpmovmskb %ymm1,%eax",
            "vptestnmb %zmm1,%zmm1,%k1",
            "kmovq  %k1,%rax",
            "vpgatherdd (%rdi,%zmm1,4),%zmm2{%k1}",
            "vptest %ymm1,%ymm1",
            "vucomisd %xmm1,%xmm2",
        ] {
            assert_eq!(sees(&[way]), 1, "{way}");
        }
        assert_eq!(sees(&["vmovdqu64 %zmm1,0x40(%rsp)", "mov    0x78(%rsp),%rax"]), 1);
        assert_eq!(sees(&["vmovdqu64 %zmm1,0x40(%rsp)", "mov    0x80(%rsp),%rax"]), 0);
        for fine in [
            "vpternlogq $0x96,%zmm6,%zmm5,%zmm14",
            "vgf2p8affineinvqb $0x63,%zmm20,%zmm13,%zmm5",
            "vpxord 0x40(%rdx),%zmm2,%zmm7",
            "vpbroadcastq %r14,%zmm2",
            "add    $0x400,%rsi",
            "jne    31590 <x>",
        ] {
            assert_eq!(sees(&[fine]), 0, "{fine}");
        }
    }

    #[test]
    fn functions_are_found_by_their_whole_name() {
        let dump = "0000 <a::b>:\n  10:\tret\n\n0001 <a::bc>:\n  11:\tnop\n";
        assert_eq!(functions(dump, "a::b"), [["ret"]]);
    }
}
