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
/// and whole moves may touch the registers; a general register may be loaded from the stack where no vector was stored (saved
/// registers), from constants beside the code, and through `tables`: the names of the register that comes in with the address of what every
/// lane shares, until something else is written to it. Nothing else may read memory, and no flags are made from it.
pub(crate) fn leaks(code: &[String], tables: [&str; 4]) -> Vec<String> {
    let stored: Vec<(i64, i64)> = code.iter().filter_map(|line| vector_store(line)).collect();
    let (mut found, mut holds) = (Vec::new(), true);
    for line in code {
        let (name, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let operands = operands.split(['#', '<']).next().unwrap_or_default().trim();
        let [base, ..] = tables;
        let harmless = if name.starts_with('v') {
            is_whole_vector(name, operands)
        } else {
            !operands.contains("mm")
                && !operands.contains("%k")
                && is_harmless_scalar(name, operands, &stored, holds.then_some(base))
        };
        if !harmless {
            found.push(line.clone());
        }
        let reads_only = ["cmp", "test", "push", "nop"].iter().any(|only| name.starts_with(only));
        if !reads_only && operands.rsplit(',').next().is_some_and(|to| tables.contains(&to)) {
            holds = false;
        }
    }
    found
}

/// Vector arithmetic and moves of whole registers. A move to a general register is one of part of it; a broadcast from one is not lane
/// data's way out.
fn is_whole_vector(name: &str, operands: &str) -> bool {
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
    whole.iter().any(|allowed| name.starts_with(allowed))
        && !operands.rsplit(',').next().is_some_and(is_general)
        && !name.starts_with("vmovmsk")
        && !operands.contains("%k")
}

/// Whether what an instruction on general registers reads in memory, if anything, is no lane's.
fn is_harmless_scalar(name: &str, operands: &str, stored: &[(i64, i64)], tables: Option<&str>) -> bool {
    let Some((before, rest)) = operands.split_once('(') else { return true };
    let Some((inside, after)) = rest.split_once(')') else { return false };
    let displacement = before.rsplit(',').next().unwrap_or_default();
    let computes_only = name == "lea" || name.contains("nop") || name == "data16";
    // A plain move to memory reads none; arithmetic on memory does, and makes flags of it.
    let stores_only = name.starts_with("mov") && after.is_empty() && before.contains(',');
    if computes_only || stores_only {
        return true;
    }
    // A call's address beside the code is the linker's.
    if !name.starts_with("mov") {
        return name == "call" && inside == "%rip";
    }
    match (inside, stack_place(&format!("{displacement}(%rsp)"))) {
        ("%rip", _) => true,
        ("%rsp", Some(place)) => !stored.iter().any(|(at, end)| place < *end && place + 8 > *at),
        (base, _) => tables == Some(base),
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

    const TABLES: [&str; 4] = ["%rcx", "%ecx", "%cx", "%cl"];

    /// The red control: each way out is seen; what kernels do is not.
    #[test]
    fn ways_out_are_seen() {
        let sees = |lines: &[&str]| {
            leaks(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), TABLES).len()
        };
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
            "mov    0x40(%rdi),%rax",
            "movzbl (%rdi,%rax,1),%eax",
            "movzbl (%rcx,%rax,1),%eax",
            "cmp    %rax,0x8(%rcx)",
            "add    %rax,0x8(%rsp)",
            "jmp    *(%rdi,%rax,8)",
            "call   *0x8(%rcx)",
        ] {
            assert_eq!(sees(&[way]), 1, "{way}");
        }
        assert_eq!(sees(&["vmovdqu64 %zmm1,0x40(%rsp)", "mov    0x78(%rsp),%rax"]), 1);
        assert_eq!(sees(&["vmovdqu64 %zmm1,0x40(%rsp)", "mov    0x80(%rsp),%rax"]), 0);
        // Once the register is another's, nothing is read through it.
        assert_eq!(sees(&["mov    $0x78,%ecx", "movzbl 0x3(%rcx),%eax"]), 1);
        assert_eq!(sees(&["cmp    %rax,%rcx", "movzbl 0x3(%rcx),%eax"]), 0);
        for fine in [
            "vpternlogq $0x96,%zmm6,%zmm5,%zmm14",
            "vgf2p8affineinvqb $0x63,%zmm20,%zmm13,%zmm5",
            "vpxord 0x40(%rdx),%zmm2,%zmm7",
            "vpbroadcastq %r14,%zmm2",
            "add    $0x400,%rsi",
            "jne    31590 <x>",
            "movzbl 0x3(%rcx),%r8d",
            "mov    %rax,0x40(%rdi)",
            "lea    0x40(%rdi,%rax,8),%rax",
            "call   *0x7cdfa(%rip)        # 121638 <_DYNAMIC+0x230>",
            "nopw   0x0(%rax,%rax,1)",
            "mov    -0x87322(%rip),%rax        # 1cd70 <anon+0xea3>",
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
