//! A rehearsal: one program plays every person of a ceremony on throw-away keys, along a script, and writes a transcript.
//! A first run makes the instance; a later run on the same directory brings it back.

mod again;
mod cast;
mod first;
mod grants;
mod keys;
mod place;
mod summary;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use translog::note::Checkpoint;
use wire::command::{self, Digest, Id, SetDigest};
use wire::frame::{InstanceStatus, ModuleState, ModuleStatus};
use wire::purse::to_hex;

use crate::ceremony::{self, Outcome, Target, WINDOW};
use crate::failure::{Failure, OrFail};
use crate::files;
use crate::instance::Instance;
use crate::keys_file::{self, KeyToImport};
use crate::link::Link;
use crate::logbook;
use crate::profile_file::{self, ProfileFile};
use crate::prompt::Prompter;
use crate::script::{Action, Run, Script};
use crate::transcript::{Tee, quote};
use crate::words;
pub(crate) use again::FLOOR_WINDOW;
use cast::Cast;
use place::Place;
pub(crate) use summary::Summary;

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) script: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) keys: PathBuf,
    /// More masters as components, for personalization.
    pub(crate) masters: Option<PathBuf>,
    /// Public key of the practice ledger.
    pub(crate) ledger: Option<PathBuf>,
    pub(crate) policy: PathBuf,
    pub(crate) ca: PathBuf,
    /// The reader is a program that says yes.
    pub(crate) agreeing: bool,
    pub(crate) patience: std::time::Duration,
}

/// The rehearsal as far as it is.
struct Rehearsal<R, W> {
    options: Options,
    script: Script,
    place: Place,
    link: Link,
    room: Prompter<R, Tee<W>>,
    keys: Vec<KeyToImport>,
    profiles: Vec<ProfileFile>,
    policy: Digest,
    ca: Digest,
    boot: Id,
    cast: Cast,
    newborn: Option<first::Newborn>,
    instance: Option<Instance>,
    summary: Summary,
}

/// Plays the script.
pub(crate) fn run<R: BufRead, W: Write>(
    options: Options,
    reader: R,
    terminal: W,
    echo: bool,
) -> Result<Summary, Failure> {
    let script = Script::read(&options.script)?;
    // Everything that a person may have got wrong is found before the first step.
    let custodians = script.custodians.names.len();
    let mut keys = keys_file::read(&options.keys, custodians)?;
    if let Some(masters) = &options.masters {
        keys.extend(keys_file::read_masters(masters, custodians)?);
    }
    let beside = options.script.parent().unwrap_or_else(|| std::path::Path::new(""));
    let profiles = script.profiles.iter().map(|file| profile_file::read(&beside.join(file)));
    let profiles = profiles.collect::<Result<_, _>>()?;
    let policy = Sha256::digest(files::read(&options.policy, "the policy")?).into();
    let ca = Sha256::digest(files::read(&options.ca, "the CA bundle")?).into();
    let place = Place::new(&options.state);
    let link = Link::new(&options.socket);
    let tee = Tee::append(&place.transcript(), terminal)?;
    let rehearsal = Rehearsal {
        room: Prompter::new(reader, tee, echo),
        boot: link.status()?.boot,
        options,
        script,
        place,
        link,
        keys,
        profiles,
        policy,
        ca,
        cast: Cast::default(),
        newborn: None,
        instance: None,
        summary: Summary::default(),
    };
    rehearsal.play()
}

impl<R: BufRead, W: Write> Rehearsal<R, W> {
    fn play(mut self) -> Result<Summary, Failure> {
        let run = self.look_around()?;
        let steps = self.script.steps(run);
        let lines: Vec<(Action, String, [String; 3])> = steps
            .iter()
            .enumerate()
            .map(|(at, step)| {
                let number = format!("[{}/{}]", at + 1, steps.len());
                let head = format!("{number} {} · {}", step.zh, step.en);
                let proves = format!("    证明 proves: {} {}", step.proves_zh, step.proves_en);
                (step.action, number, [String::new(), head, proves])
            })
            .collect();
        for (action, number, said) in lines {
            for line in &said {
                self.room.say(line)?;
            }
            let begun = Instant::now();
            let name = action.as_str();
            if let Err(failure) = self.step(action) {
                let failure = failure.at(format!("step {number} {name}"));
                // The transcript ends with what stopped it.
                let _ = self.room.say(&format!("    失败 FAILED: {failure}"));
                self.give_up(action);
                return Err(failure);
            }
            let seconds = begun.elapsed().as_secs_f64();
            self.room.say(&format!("    用时 took {seconds:.2} s"))?;
            self.summary.step(name, seconds);
        }
        Ok(self.summary)
    }

    fn step(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Greet => self.greet(),
            Action::EnrolOfficers => self.enrol_officers(),
            Action::EnrolCustodians => self.enrol_custodians(),
            Action::Genesis => self.genesis(),
            Action::ProveShares => self.prove_shares(),
            Action::Unseal => self.unseal(),
            Action::Floor => self.floor(),
            Action::Recover => self.recover(),
            Action::ApproveFiles => self.approve_files(),
            Action::ImportKeys => self.import_keys(),
            Action::ActivateKeys => self.activate_keys(),
            Action::MakeKeys => self.make_keys(),
            Action::ApproveProfiles => self.approve_profiles(),
            Action::GrantLicences => self.grant_licences(),
            Action::Close => self.close(),
        }
    }

    /// Leaves nothing half done at the module that would block the next run.
    fn give_up(&self, action: Action) {
        if matches!(action, Action::Genesis | Action::ProveShares | Action::ImportKeys) {
            // The refusal that brought us here is what counts; a module that is gone has nothing to give up.
            let _ = self.link.abort();
        }
    }

    /// Finds out whether an instance is to be made or to come back, and tidies up after an interrupted genesis.
    fn look_around(&mut self) -> Result<Run, Failure> {
        if !self.place.has_instance() {
            self.adopt()?;
        }
        if self.place.has_instance() {
            let instance = Instance::read(&self.place.instance())?;
            if !instance.rehearsal {
                return Err(Failure::new(
                    "此目录中的实例不是演练实例;演练程序不会触碰它。",
                    "the instance in this directory is no rehearsal; a rehearsal does not touch it",
                ));
            }
            self.cast = Cast::open(&self.place, &self.script)?;
            self.instance = Some(instance);
            let states = [ModuleState::Sealed, ModuleState::Recovering, ModuleState::Operational];
            self.boot = self.link.wait_for(&states, self.options.patience)?.boot;
            return Ok(Run::Again);
        }
        let state = self.link.status()?.state;
        if state == ModuleState::Uninitialised && self.options.log.join("checkpoint").exists() {
            return Err(Failure::new(
                "此目录中有日志,却没有它的仪式资料;请恢复 ceremony 目录,或换一个目录。",
                "there is a log here but not the ceremony that it belongs to; restore the ceremony directory, or rehearse in \
                 a new directory",
            ));
        }
        if state == ModuleState::Uninitialised {
            self.link.abort()?;
            self.place.clear_pending(&self.script.custodians.names)?;
            return Ok(Run::First);
        }
        Err(Failure::new(
            "模块已有实例,而此目录中没有它的资料;请用 --state 指定原来的目录。",
            format!(
                "the module is {state}: it has an instance that this directory knows nothing of; give the right --state"
            ),
        ))
    }

    fn greet(&mut self) -> Result<(), Failure> {
        let status = self.link.status()?;
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let (zh, en) = (&self.script.title_zh, &self.script.title_en);
        let mut lines = vec![
            format!("    === REHEARSAL 演练 === {zh} · {en}"),
            format!("    时间 time        {now}"),
            format!("    模块身份 module  {}", words::fingerprint(&status.identity)),
            format!("    程序 program     SHA-256 {}", to_hex(&status.module)),
            format!("    启动 boot        {}", to_hex(&status.boot)),
            format!("    状态 state       {}, memory {}, {}", status.state, status.memory, status.backend),
        ];
        if let Some(instance) = &self.instance {
            lines.push(format!("    实例 instance    {}", to_hex(&instance.id)));
            if instance.identity != status.identity {
                return Err(Failure::new(
                    "模块身份与创世时登记的不同;不要提交任何秘密,请通知安全官。",
                    "the module's identity is not the one that was pinned at genesis: give it no secret, and call the officers",
                ));
            }
        }
        for line in lines {
            self.room.say(&line)?;
        }
        if self.options.agreeing {
            self.room.say("    以下回答均由演练程序代答。 The rehearsal answers for everybody.")?;
        }
        let agreed = self.room.confirm(
            "    模块旁的人读到的身份指纹与此相同吗?",
            "Does whoever sits at the module read the same fingerprint?",
        )?;
        if agreed {
            return Ok(());
        }
        Err(Failure::new(
            "指纹不同:对面不是这个模块;请停止。",
            "the fingerprints differ: what answers is another module; stop",
        ))
    }

    /// keyd may load only what officers have approved.
    fn approve_files(&mut self) -> Result<(), Failure> {
        let known = self.known()?;
        let (policy, ca) = (self.policy, self.ca);
        let changes = [
            ("策略 policy", known.policy, policy, command::Action::SetPolicy(SetDigest { digest: policy })),
            ("CA 证书 CA", known.ca, ca, command::Action::SetCa(SetDigest { digest: ca })),
        ];
        for (what, approved, file, action) in changes {
            if approved == file {
                self.room.say(&format!("    {what}: SHA-256 {} 已批准 approved", to_hex(&file)))?;
            } else {
                let signed = self.approved(action)?;
                ceremony::submit(&self.link, &signed)?;
                self.room.say(&format!("    {what}: 新摘要已批准 new digest approved {}", to_hex(&file)))?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let known = self.known()?;
        let instance = self.instance()?;
        let book = logbook::read(&self.options.log, &instance.vkey, known.size)?;
        let (instance_id, vkey) = (to_hex(&instance.id), instance.vkey.to_string());
        self.room.say(&format!("    实例 instance    {instance_id}"))?;
        self.room.say(&format!("    日志公钥 vkey    {vkey}"))?;
        for (id, key) in book.state.keys() {
            let (made, kcv) = (&key.made.attributes, to_hex(&key.made.attributes.kcv));
            self.room
                .say(&format!("    密钥 key         {id} {} KCV {kcv} {}", made.algorithm, key.state))?;
            self.summary.key(made, key.state, key.made.public.as_ref());
        }
        for known in book.state.licences() {
            let (licence, issued) = (&known.licence, known.issued());
            let (id, line) = (to_hex(&licence.id), &licence.line);
            self.room.say(&format!("    许可 licence     {id} {line} {issued}/{}", licence.quantity))?;
            // Programs go on with the licences that give cards.
            let current = book.state.profile(&licence.applet).map(|(digest, _)| *digest);
            if current == Some(licence.profile) && !known.revoked {
                self.summary.licence(known);
            }
        }
        self.summary.instance(&instance_id, &to_hex(&self.boot), &vkey);
        self.say_head(&book.head, &book.note)
    }

    /// Writes a signed head down: a later floor can be taken from it.
    fn say_head(&mut self, head: &Checkpoint, note: &str) -> Result<(), Failure> {
        self.room.say(&format!("    日志头 log head  {} entries, root {}", head.size, to_hex(&head.root)))?;
        for line in quote(note) {
            self.room.say(&line)?;
        }
        self.summary.head(head.size, &to_hex(&head.root));
        Ok(())
    }

    /// A command that as many officers have approved as are needed.
    fn approved(&mut self, action: command::Action) -> Result<command::SignedCommand, Failure> {
        let known = self.known()?;
        let target = Target {
            officer_epoch: known.officer_epoch,
            ..Target::new(self.instance()?, known.size, WINDOW)
        };
        self.approved_for(&target, action, self.script.officers.needed())
    }

    fn approved_for(
        &mut self,
        target: &Target,
        action: command::Action,
        needed: usize,
    ) -> Result<command::SignedCommand, Failure> {
        let officers = self.cast.officers.get(..needed).unwrap_or_default();
        let proposer = officers.first().map(|officer| officer.name.clone()).unwrap_or_default();
        let mut signed = ceremony::propose(target, &proposer, action)?;
        for officer in officers {
            ceremony::approve(&mut signed, officer, &mut self.room)?;
        }
        Ok(signed)
    }

    /// Submits a command of the ordinary kind.
    fn carry_out(&mut self, action: command::Action) -> Result<wire::frame::CommandDone, Failure> {
        let signed = self.approved(action)?;
        match ceremony::submit(&self.link, &signed)? {
            Outcome::Command(done) => Ok(done),
            Outcome::Floor | Outcome::Genesis(_) => Err(out_of_order()),
        }
    }

    fn instance(&self) -> Result<&Instance, Failure> {
        self.instance.as_ref().ok_or_else(out_of_order)
    }

    /// What the module in service says of the instance; it must be ours, in the boot that we greeted.
    fn known(&self) -> Result<InstanceStatus, Failure> {
        let ModuleStatus { boot, instance, state, .. } = self.link.status()?;
        let ours = self.instance()?.id;
        match instance {
            Some(known) if known.instance == ours && boot == self.boot => Ok(known),
            _ if boot != self.boot => Err(Failure::new(
                "模块在仪式中途重启;请重新执行,仪式会从恢复开始。",
                "the module restarted during the ceremony; run it again, it will go on with the recovery",
            )),
            Some(_) => Err(Failure::new(
                "模块服务的是另一个实例;请用 --state 指定它的目录。",
                "the module serves another instance; give that one's --state",
            )),
            None => Err(Failure::new(
                "模块尚未服务。",
                format!("the module is {state}, not in service; run the rehearsal again"),
            )),
        }
    }
}

/// Cannot happen with a script whose order was checked.
fn out_of_order() -> Failure {
    Failure::new(
        "脚本步骤的顺序不对。",
        "this step needs an earlier one that was not played; take the script that comes with keyceremony",
    )
}

/// A reader that says yes: every person of a rehearsal agrees.
#[derive(Debug, Default)]
pub(crate) struct Agreeing(usize);

impl std::io::Read for Agreeing {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let answer = b"yes\n";
        let mut count = 0;
        for to in into.iter_mut() {
            *to = answer.get(self.0 % answer.len()).copied().unwrap_or(b'\n');
            self.0 += 1;
            count += 1;
        }
        Ok(count)
    }
}

/// Writes the machine-readable summary.
pub(crate) fn write_summary(path: &std::path::Path, summary: &Summary) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(summary).or_fail("无法写出摘要。", "the summary has no text")?;
    files::replace(path, format!("{text}\n").as_bytes(), files::PUBLIC)
}

#[cfg(test)]
mod tests;
