//! Every problem code that leaves keyd, in one table; `ERRORS.md` is this table as text, and a test holds it to that.
//!
//! A code has one status and one meaning for ever. New codes go to the end of their block.

use wire::error::Refusal as Code;

/// Whether the same request, sent again, can fare better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Again {
    /// Not as it is: something in it must change.
    Changed,
    /// No: it is done.
    Done,
    /// Yes, after a moment.
    Later,
    /// Yes, once people have acted: officers, operators.
    Acted,
}

impl Again {
    /// As `ERRORS.md` says it.
    #[cfg(test)]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "no, change it / 修改后再发",
            Self::Done => "no, it is done / 已执行,勿重发",
            Self::Later => "yes, later / 稍后原样重发",
            Self::Acted => "yes, once they have acted / 处理后原样重发",
        }
    }
}

/// One code.
#[derive(Debug)]
pub(crate) struct Row {
    /// The stable code.
    pub(crate) code: &'static str,
    /// HTTP status.
    pub(crate) status: u16,
    /// What it means.
    pub(crate) title: &'static str,
    /// The same in Chinese.
    pub(crate) chinese: &'static str,
    /// What to do next.
    pub(crate) remedy: &'static str,
    /// Whether to send it again.
    #[cfg_attr(not(test), expect(dead_code, reason = "said in ERRORS.md"))]
    pub(crate) again: Again,
}

macro_rules! rows {
    ($list:ident: $($name:ident = $code:literal $status:literal $again:ident, $title:literal, $chinese:literal, $remedy:literal;)*) => {
        $(
            pub(crate) static $name: Row = Row {
                code: $code,
                status: $status,
                title: $title,
                chinese: $chinese,
                remedy: $remedy,
                again: Again::$again,
            };
        )*

        /// One block of the table.
        #[cfg(test)]
        pub(crate) static $list: &[&Row] = &[$(&$name,)*];
    };
}

rows! {
    REQUEST:
    BAD_JSON = "bad-json" 400 Changed, "The body is not the JSON of this path", "请求体不是此接口的 JSON",
        "Compare it with GET /v1/openapi.json: no unknown, doubled, missing or mistyped field.";
    BAD_FIELD = "bad-field" 400 Changed, "A field has the wrong form", "字段格式错误", "Write the field as the detail says.";
    BAD_QUERY = "bad-query" 400 Changed, "The query of the URL is not this path's", "URL 参数错误",
        "Use only the parameters that the detail names.";
    BAD_BATCH = "bad-batch" 400 Changed, "The body is not a batch", "请求体不是批量记录格式",
        "Make it as wire's SPEC.md says, or send the F1 day as text/plain.";
    BATCH_GROUPS = "batch-groups" 400 Changed, "The batch's group table is not one", "批量分组表错误",
        "Name no group twice and at most 65535; split the batch.";
    BAD_COMMAND = "bad-command" 400 Changed, "The body is not a signed command", "请求体不是已签名的命令",
        "Make it with keyceremony.";
    BODY_BROKEN = "body-broken" 400 Later, "The body broke off before its end", "请求体中断", "Send it again.";
    BODY_TIMEOUT = "body-timeout" 408 Later, "The body did not come in time", "请求体传输过慢",
        "Send it again without pauses.";
    NOT_PERMITTED = "not-permitted" 403 Acted, "The policy does not grant this operation to you", "策略未授权此操作",
        "Ask the officers for a grant.";
    NOT_FOUND = "not-found" 404 Changed, "There is nothing under this path for you", "没有此资源", "Check the path.";
    NO_SUCH_KEY = "no-such-key" 404 Changed, "There is no such key for you", "没有此密钥",
        "GET /v1/keys lists those that you may use.";
    NO_SUCH_LIST = "no-such-list" 404 Changed, "There is no such blacklist for you", "没有此名单",
        "Check the wall's name; a list exists once it was signed.";
    METHOD = "method-not-allowed" 405 Changed, "This path has another method", "请求方法错误", "Use a method that Allow names.";
    NOT_ACCEPTABLE = "not-acceptable" 406 Changed, "No answer has a type that you accept", "不支持所要求的响应类型",
        "Accept a type that the detail names.";
    TOO_LARGE = "too-large" 413 Changed, "That is too much at once", "请求过大", "Split the request.";
    MEDIA_TYPE = "media-type" 415 Changed, "The body has another media type", "请求体类型错误",
        "Send the type that the detail names.";
}

rows! {
    SERVICE:
    QUOTA = "quota" 429 Later, "Your quota of items per second is used up", "超出配额", "Wait as Retry-After says.";
    INTERNAL = "internal" 500 Acted, "keyd could not answer", "服务内部错误",
        "keyd's own log says why; ask its operators.";
    BUSY = "busy" 503 Later, "All places for this work are taken", "服务繁忙", "Wait as Retry-After says.";
    RESULT_GONE = "result-gone" 503 Later, "The module does not hold the result any more", "结果已失效",
        "Send the same request again: it gets the same answer and nothing is counted twice.";
    MODULE_GONE = "module-gone" 503 Later, "The cryptographic module is gone; there is no result", "密码模块已断开",
        "Send the same request again later: what was counted is not counted twice.";
    MODULE_STATE = "module-state" 503 Acted, "The module does not serve in its present state", "密码模块当前状态不提供服务",
        "GET /v1/status names the state; the custodians unseal it.";
    NOT_APPROVED = "not-approved" 503 Acted,
        "The officers have approved another policy or CA bundle than keyd has loaded", "策略或 CA 证书未经批准",
        "Put the approved file in place.";
    UNWITNESSED = "unwitnessed" 503 Acted, "The witnesses' quorum has not cosigned the log in time", "见证法定数未及时确认日志",
        "Send the same request again: nothing is counted twice. GET /v1/status says which witness has what trouble.";
}

rows! {
    CALLS:
    KEY_STATE = "key-state" 409 Acted, "The key's state does not permit this", "密钥状态不允许此操作",
        "GET /v1/keys names the state; the officers change it.";
    NO_SUCH_LICENCE = "no-such-licence" 404 Changed, "There is no such licence for you", "没有此许可",
        "Use the id that the officers gave to this line.";
    LICENCE_EXPIRED = "licence-expired" 403 Acted, "The licence is not valid now", "许可不在有效期内或已撤销",
        "Ask the officers for a new licence.";
    LICENCE_USED_UP = "licence-used-up" 403 Acted, "The licence's quantity is used up", "许可数量已用完",
        "Ask the officers for a new licence, or have them reconcile spoiled cards.";
    CARD_RANGE = "card-range" 422 Changed, "A card is outside the licence's range, or no card number", "卡号不在许可范围内",
        "Check the card's number; a line sends only cards of its licence's range.";
    CARD_SPOILED = "card-spoiled" 409 Changed, "A card was declared spoiled", "卡片已登记为废卡",
        "Its number is dead; personalize another card.";
    PROFILE_CHANGED = "profile-changed" 409 Acted, "The applet's profile is not the licence's any more", "应用配置与许可不一致",
        "Ask the officers for a licence under the new profile.";
    TRANSPORT_KEY = "transport-key" 409 Acted, "The transport key is not the licence's, or not active", "传输密钥与许可不符或未启用",
        "Ask the officers; GET /v1/licences/{id} names the key.";
    CARD_CHIP = "card-chip" 409 Changed, "The chip's factor is missing, or another than before", "芯片因子缺失或与先前不同",
        "Read the factor from the chip again; a card keeps the one it came with.";
    BAD_LICENCE = "bad-licence" 422 Changed, "The licence does not have that, or names what does not exist", "许可内容不符",
        "GET /v1/licences/{id} shows what it grants.";
    BAD_PROFILE = "bad-profile" 409 Acted, "A profile that no applet may have, or that does not fit the keys", "应用配置不合法",
        "The officers correct the applet's profile.";
    LIST_FORMAT = "list-format" 422 Changed, "The bytes are no list", "名单格式错误",
        "Build it with citykeep blacklist build; wire's SPEC.md has the format.";
    LIST_EPOCH = "list-epoch" 409 Changed, "The list's epoch is not the next one", "名单期号不是下一期",
        "Build the list on the newest one: GET /v1/blacklists/{wall}.";
    LIST_REMOVALS = "list-removals" 403 Acted, "The list takes more cards off than may go without a quorum", "移出名单的卡片超过限额",
        "Have the officers approve the list's digest, then send it again.";
    LIST_BASE = "list-base" 409 Acted, "keyd's copy of the list in force is not the one that the log names", "在用名单副本与日志不符",
        "Operators: put the full list in force at state_dir/blacklists/WALL.base (keyd's SPEC.md, Blacklists), then send the list again; where it is lost, officers approve a full list's digest.";
    LIST_MAC_KEY = "list-mac-key" 409 Changed, "This epoch was signed before, under another MAC key", "该期名单已用另一 MAC 密钥签发",
        "GET /v1/blacklists/{wall} gives the file that was signed; or build the next epoch.";
    NO_SUCH_TOKEN = "no-such-token" 404 Acted, "There is no such ledger key for this wall, or it has ended", "没有此账务密钥或已停用",
        "Check signer; the officers enrol ledger keys.";
    BAD_TOKEN = "bad-token" 422 Changed, "The ledger's token is not one, or its signature is wrong", "账务凭证无效",
        "Send the ledger's bytes and signature as it gave them.";
    TOKEN_MISMATCH = "token-mismatch" 422 Changed, "The token is for another load", "账务凭证与圈存内容不符",
        "Send the token of this card, counter, amount and terminal.";
    TOKEN_USED = "token-used" 409 Changed, "This card and counter were answered for another load", "此卡此序号已用于另一笔圈存",
        "Do not debit again before the ledger has resolved the load; if it was not credited, its next token replaces the entry in the detail.";
    LOAD_COUNTER = "load-counter" 409 Changed, "A higher counter of this card was answered before", "联机序号低于已处理的序号",
        "Read the card again; an old session is over.";
    MAC_WRONG = "mac-wrong" 422 Changed, "The card's MAC is wrong", "卡片 MAC 错误",
        "Start the load again at the card; several in a row are for the officers.";
    VALUE_CEILING = "value-ceiling" 403 Acted, "The ledger key's value for this day is used up", "账务密钥当日额度已用完",
        "Ask the officers; the load stays pending.";
    TOKEN_DATE = "token-date" 422 Changed, "The token's date is too far from the module's", "账务凭证日期偏差过大",
        "Check the ledger's clock and have it commit again.";
    WITHHELD = "withheld" 403 Acted, "The card or key version is over its failure budget", "失败次数过多,已停止应答",
        "The officers look at it and reset the budget.";
    BAD_SCRIPT = "bad-script" 422 Changed, "No card command may have these fields", "卡片指令字段不合法",
        "Correct the fields as the detail says.";
    WEAK_TRANSPORT = "weak-transport" 409 Acted, "The transport key is weaker than a card key that it would wrap", "传输密钥强度低于所保护的卡片密钥",
        "Name 3DES roles only, or have the officers grant a licence under an AES transport key.";
}

rows! {
    COMMANDS:
    KEY_EXISTS = "key-exists" 409 Changed, "This lineage has this version already", "此密钥版本已存在", "Take another version.";
    KEY_REUSED = "key-reused" 409 Changed, "The same key bytes are in use under another name", "密钥内容已用于其他名称",
        "Make a key of its own.";
    WEAK_KEY = "weak-key" 409 Changed, "The key has no strength", "弱密钥", "Make another key.";
    KEY_KCV = "key-kcv" 409 Changed, "The key does not have the check value that the command names", "密钥校验值不符",
        "Compare the components with their envelopes.";
    KEY_ATTRIBUTES = "key-attributes" 409 Changed, "Attributes that no applet may have", "密钥属性不合法",
        "Correct levels, factors or usage.";
    WRONG_INSTANCE = "wrong-instance" 409 Changed, "The command names another instance", "命令属于另一实例",
        "Propose it for this instance.";
    OFFICER_EPOCH = "officer-epoch" 409 Changed, "The command was signed under another officer set", "安全官组已变更",
        "Have the present officers sign it.";
    UNKNOWN_OFFICER = "unknown-officer" 409 Changed, "A signature of nobody in the officer set", "签名者不是安全官",
        "Have members sign it.";
    BAD_SIGNATURE = "bad-signature" 409 Changed, "A signature does not verify", "签名无效", "Sign these very bytes.";
    SIGNED_TWICE = "signed-twice" 409 Changed, "The same officer twice", "同一安全官重复签名", "Another officer must sign.";
    QUORUM_MISSING = "quorum-missing" 409 Changed, "Fewer approvals than the officer set demands", "批准人数不足",
        "Gather more signatures.";
    COMMAND_USED = "command-used" 409 Changed, "The command was carried out before", "命令已执行过",
        "Its entry in the log says what it did; propose a new one only for what is to be done once more.";
    COMMAND_WINDOW = "command-window" 409 Changed, "The log index is outside the command's window", "命令已过有效窗口",
        "Propose it again.";
    COMMAND_KIND = "command-kind" 409 Changed, "A kind of command that this socket or state does not take",
        "此接口或状态不接受该命令", "Bring it to the officers' socket.";
    LIMITS = "limits" 409 Changed, "These limits may not be set here", "限额不可如此设置", "Keep to the compiled-in caps.";
    BAD_SET = "bad-set" 409 Changed, "An officer or custodian set below the compiled-in floors", "安全官或保管人组不合法",
        "Take m ≥ 2, n ≤ 32, no name or key twice.";
    SHARE_SET = "share-set" 409 Changed, "The shares do not give the root", "分量组合不出根密钥", "Bring the shares of one set.";
    SHARE_UNPROVED = "share-unproved" 409 Acted, "Not every share of the new set has been proved", "新分量尚未全部验证",
        "Have every custodian prove his share.";
    COMPONENT_COMMITMENT = "component-commitment" 409 Changed, "The component does not match its commitment", "分量与承诺值不符",
        "Type it again.";
    COMPONENT_KCV = "component-kcv" 409 Changed, "The component does not have its check value", "分量校验值不符", "Type it again.";
    COMPONENT_FOREIGN = "component-foreign" 409 Changed, "No import waits for this component", "没有等待此分量的导入",
        "Propose the import first.";
    COMPONENT_TWICE = "component-twice" 409 Changed, "This component is already there", "分量已录入", "Bring the next one.";
    BAD_CLIENT = "bad-client" 409 Changed, "A client's name or key that cannot be enrolled, or is not", "客户端名称或密钥不可登记或未登记",
        "Correct the name, or make a new key.";
    RETENTION = "retention" 409 Changed, "Entries that are too young to go, or went already", "日志条目未到保留期限或已清除",
        "Keep at least 183 days.";
    BAD_WITNESSES = "bad-witnesses" 409 Changed, "A witness set that breaks its rules", "见证方集合不合法",
        "Take 1 ≤ k ≤ n ≤ 32, or n = k = 0; no name or key twice; a grace of at most 30 days.";
    COMMAND_UNWITNESSED = "command-unwitnessed" 504 Done,
        "The command was carried out, and the witnesses' quorum has not cosigned its entry in time", "命令已执行,见证法定数尚未确认",
        "Do not propose it anew. GET /v1/status says which witness has what trouble; the log has the entry, and is witnessed when they are back.";
}

/// The whole table, block by block.
#[cfg(test)]
pub(crate) static BLOCKS: [(&str, &[&Row]); 4] = [
    ("The request", REQUEST),
    ("The service", SERVICE),
    ("Card keys, licences, lists, loads, scripts", CALLS),
    ("Commands of officers", COMMANDS),
];

/// What a client is told if the module refuses his data; `None` for what is keyd's own mistake.
pub(crate) const fn of_module(code: Code) -> Option<&'static Row> {
    Some(match code {
        Code::NoSuchKey => &NO_SUCH_KEY,
        Code::Busy => &BUSY,
        Code::BatchGroups => &BATCH_GROUPS,
        Code::TooLarge => &TOO_LARGE,
        Code::WrongState | Code::Fault => &MODULE_STATE,
        Code::Unwitnessed => &UNWITNESSED,
        Code::UnknownTicket | Code::NotDurable => &RESULT_GONE,
        Code::KeyState => &KEY_STATE,
        Code::NoSuchLicence => &NO_SUCH_LICENCE,
        Code::LicenceExpired => &LICENCE_EXPIRED,
        Code::LicenceUsedUp => &LICENCE_USED_UP,
        Code::CardRange => &CARD_RANGE,
        Code::CardSpoiled => &CARD_SPOILED,
        Code::ProfileChanged => &PROFILE_CHANGED,
        Code::TransportKey => &TRANSPORT_KEY,
        Code::CardChip => &CARD_CHIP,
        Code::BadProfile => &BAD_PROFILE,
        Code::BadLicence => &BAD_LICENCE,
        Code::ListFormat => &LIST_FORMAT,
        Code::ListEpoch => &LIST_EPOCH,
        Code::ListRemovals => &LIST_REMOVALS,
        Code::ListBase => &LIST_BASE,
        Code::ListMacKey => &LIST_MAC_KEY,
        Code::NoSuchToken => &NO_SUCH_TOKEN,
        Code::BadToken => &BAD_TOKEN,
        Code::TokenMismatch => &TOKEN_MISMATCH,
        Code::TokenUsed => &TOKEN_USED,
        Code::LoadCounter => &LOAD_COUNTER,
        Code::MacWrong => &MAC_WRONG,
        Code::ValueCeiling => &VALUE_CEILING,
        Code::TokenDate => &TOKEN_DATE,
        Code::Withheld => &WITHHELD,
        Code::BadScript => &BAD_SCRIPT,
        Code::WeakTransport => &WEAK_TRANSPORT,
        _ => return None,
    })
}

/// What officers are told if the module refuses their command; `None` for what no command can meet.
pub(crate) const fn of_command(code: Code) -> Option<&'static Row> {
    Some(match code {
        Code::BadCommand | Code::BadFrame => &BAD_COMMAND,
        Code::KeyExists => &KEY_EXISTS,
        Code::KeyReused => &KEY_REUSED,
        Code::WeakKey => &WEAK_KEY,
        Code::KeyKcv => &KEY_KCV,
        Code::KeyAttributes => &KEY_ATTRIBUTES,
        Code::WrongInstance => &WRONG_INSTANCE,
        Code::OfficerEpoch => &OFFICER_EPOCH,
        Code::UnknownOfficer => &UNKNOWN_OFFICER,
        Code::BadSignature => &BAD_SIGNATURE,
        Code::SignedTwice => &SIGNED_TWICE,
        Code::QuorumMissing => &QUORUM_MISSING,
        Code::CommandUsed => &COMMAND_USED,
        Code::CommandWindow => &COMMAND_WINDOW,
        Code::CommandKind => &COMMAND_KIND,
        Code::Limits => &LIMITS,
        Code::BadSet => &BAD_SET,
        Code::ShareSet => &SHARE_SET,
        Code::ShareUnproved => &SHARE_UNPROVED,
        Code::ComponentCommitment => &COMPONENT_COMMITMENT,
        Code::ComponentKcv => &COMPONENT_KCV,
        Code::ComponentForeign => &COMPONENT_FOREIGN,
        Code::ComponentTwice => &COMPONENT_TWICE,
        Code::BadClient => &BAD_CLIENT,
        Code::Retention => &RETENTION,
        Code::BadWitnesses => &BAD_WITNESSES,
        other => return of_module(other),
    })
}
