//! `kv …`: keys.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{number, pairs, text};

/// A key as part of a path: each segment escaped, slashes kept.
fn path_of(key: &str) -> String {
    let segments: Vec<String> = key.trim_start_matches('/').split('/').map(escape).collect();
    format!("/v1/kv/{}", segments.join("/"))
}

pub(super) fn get(context: Context) -> Running {
    Box::pin(async move {
        let key = match context.flags.arguments.as_slice() {
            [] => String::new(),
            [key] => key.clone(),
            _ => return Err(Failure::Usage("Too many arguments (expected 1)".to_owned())),
        };
        let (keys, recurse) = (context.flags.on("keys"), context.flags.on("recurse"));
        if key.is_empty() && !keys && !recurse {
            return Err(Failure::Usage("Error! Missing KEY argument".to_owned()));
        }
        let parameter = if keys {
            let separator = context.flags.value("separator").unwrap_or("/");
            format!("?keys&separator={}", escape(separator))
        } else if recurse {
            "?recurse".to_owned()
        } else {
            String::new()
        };
        let found = context.client.find(&format!("{}{parameter}", path_of(&key))).await?;
        let entries = found.map_or(Value::Null, |answer| answer.body);
        let entries = entries.as_array().map_or(&[][..], Vec::as_slice);
        if keys {
            for name in entries {
                println!("{}", name.as_str().unwrap_or(""));
            }
            return Ok(0);
        }
        if entries.is_empty() && !recurse {
            return Err(Failure::new(format!("Error! No key exists at: {key}")));
        }
        for (position, entry) in entries.iter().enumerate() {
            let value = value_of(&context, entry);
            if context.flags.on("detailed") {
                if position > 0 {
                    println!();
                }
                println!("{}", detailed(entry, &value));
            } else if recurse {
                println!("{}:{value}", text(entry, "Key"));
            } else {
                println!("{value}");
            }
        }
        Ok(0)
    })
}

fn value_of(context: &Context, entry: &Value) -> String {
    let encoded = text(entry, "Value");
    if context.flags.on("base64") {
        return encoded;
    }
    String::from_utf8_lossy(&STANDARD.decode(encoded).unwrap_or_default()).into_owned()
}

fn detailed(entry: &Value, value: &str) -> String {
    let session = match text(entry, "Session") {
        session if session.is_empty() => "-".to_owned(),
        session => session,
    };
    pairs(&[
        ("CreateIndex", text(entry, "CreateIndex")),
        ("Flags", text(entry, "Flags")),
        ("Key", text(entry, "Key")),
        ("LockIndex", text(entry, "LockIndex")),
        ("ModifyIndex", text(entry, "ModifyIndex")),
        ("Session", session),
        ("Value", value.to_owned()),
    ])
    .replace(" = ", "      ")
}

pub(super) fn put(context: Context) -> Running {
    Box::pin(async move {
        let (key, value) = match context.flags.arguments.as_slice() {
            [key] => (key, Vec::new()),
            [key, value] => (key, data(value)?),
            _ => return Err(Failure::Usage("Error! Missing KEY argument".to_owned())),
        };
        let value = if context.flags.on("base64") {
            STANDARD.decode(&value).map_err(|error| {
                Failure::new(format!("Error! Cannot base 64 decode data: {error}"))
            })?
        } else {
            value
        };
        let mut parameters = vec![format!("flags={}", context.flags.value("flags").unwrap_or("0"))];
        if context.flags.on("cas") {
            parameters.push(format!("cas={}", context.flags.value("modify-index").unwrap_or("0")));
        }
        let path = format!("{}?{}", path_of(key), parameters.join("&"));
        let done = context.client.put_bytes(&path, value).await?.body;
        if done != json!(true) {
            return Err(Failure::new(format!("Error! Did not write to {key}: CAS failed")));
        }
        println!("Success! Data written to: {key}");
        Ok(0)
    })
}

/// `@file` is a file, `-` is standard input, anything else is itself.
fn data(argument: &str) -> Result<Vec<u8>, Failure> {
    if argument == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::new(format!("Error! Failed to read stdin: {error}")))?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => std::fs::read(path)
            .map_err(|error| Failure::new(format!("Error! Failed to read file {path}: {error}"))),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

pub(super) fn delete(context: Context) -> Running {
    Box::pin(async move {
        let key = context.one_argument("<key>")?;
        if context.flags.on("recurse") {
            context.client.delete(&format!("{}?recurse", path_of(key))).await?;
            println!("Success! Deleted keys with prefix: {key}");
            return Ok(0);
        }
        let cas = if context.flags.on("cas") {
            format!("?cas={}", context.flags.value("modify-index").unwrap_or("0"))
        } else {
            String::new()
        };
        let done = context.client.delete(&format!("{}{cas}", path_of(key))).await?.body;
        if done != json!(true) {
            return Err(Failure::new(format!("Error! Did not delete key {key}: CAS failed")));
        }
        println!("Success! Deleted key: {key}");
        Ok(0)
    })
}

pub(super) fn export(context: Context) -> Running {
    Box::pin(async move {
        let prefix = context.flags.arguments.first().map_or("", String::as_str);
        let found = context.client.find(&format!("{}?recurse", path_of(prefix))).await?;
        let entries = found.map_or(Value::Null, |answer| answer.body);
        let exported: Vec<Value> = entries
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                json!({
                    "key": text(entry, "Key"),
                    "flags": number(entry, "Flags"),
                    "value": text(entry, "Value"),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&exported).unwrap_or_default());
        Ok(0)
    })
}

pub(super) fn import(context: Context) -> Running {
    Box::pin(async move {
        let bytes = data(context.one_argument("<JSON, @file or ->")?)?;
        let entries: Vec<Value> = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(format!("Error! Failed to parse data: {error}")))?;
        let prefix = context.flags.value("prefix").unwrap_or("");
        for entry in &entries {
            let key = format!("{prefix}{}", text(entry, "key"));
            let value = STANDARD.decode(text(entry, "value")).map_err(|error| {
                Failure::new(format!("Error! The value of {key} is not base64: {error}"))
            })?;
            let path = format!("{}?flags={}", path_of(&key), number(entry, "flags"));
            context.client.put_bytes(&path, value).await?;
            println!("Imported: {key}");
        }
        Ok(0)
    })
}
