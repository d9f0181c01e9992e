//! `citykeep load`

use std::io::Read;
use std::path::Path;

use serde_json::json;
use wire::api::LoadRequest;

use crate::cli::LoadArguments;
use crate::failure::Failure;
use crate::files;
use crate::report::Report;

pub(crate) fn authorize(arguments: &LoadArguments) -> Result<Report, Failure> {
    let text = if arguments.request == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(&arguments.request)
    };
    let place = arguments.request.display();
    let text = text.map_err(|error| {
        let en = format!("cannot read the request ({error}); check the path");
        Failure::untried(format!("{place}: 无法读取请求,请检查路径。"), en)
    })?;
    let request: LoadRequest = serde_json::from_str(&text).map_err(|error| {
        let en = format!("it is no load request ({error}); the fields stand in GET /v1/openapi.json");
        Failure::untried(format!("{place}: 不是圈存请求,字段见 GET /v1/openapi.json。"), en)
    })?;
    let client = files::client(&arguments.service, None)?;
    let answer = files::run(client.authorize_load(&request))?;
    let again =
        if answer.again { "同一请求的同一答复 the same answer as before" } else { "新授权 new" };
    let lines = vec![
        format!("圈存已授权 authorised: {} fen to {} ({again})", request.amount, request.serial),
        format!("MAC2           {}", answer.mac2),
        format!("日期时间 moment {} {}", answer.date, answer.time),
        format!("日志 log       entry {}", answer.index),
    ];
    Ok(Report { lines, json: json!({"ok": true, "answer": answer}) })
}
