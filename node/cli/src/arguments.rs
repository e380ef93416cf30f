//! Arguments as people and scripts give them, before and after they are refused.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    failure,
    output::{Output, OutputFormat},
};

/// The arguments of this process.
pub(crate) fn given() -> impl Iterator<Item = OsString> {
    std::env::args_os().map(|argument| at_home(argument, std::env::home_dir()))
}

/// An argument with the user's home in the place of a tilde that no shell has replaced: in
/// `--dir=~/net`, or between quotes.
fn at_home(argument: OsString, home: Option<PathBuf>) -> OsString {
    let (Some(text), Some(home)) = (argument.to_str(), home.as_deref().and_then(Path::to_str))
    else {
        return argument;
    };
    let option = text.split_once("=~/").filter(|(name, _)| name.starts_with("--"));
    match (text.strip_prefix("~/"), option) {
        (Some(rest), _) => format!("{home}/{rest}").into(),
        (None, Some((name, rest))) => format!("{name}={home}/{rest}").into(),
        (None, None) => argument,
    }
}

/// Says what is wrong with the arguments, or the help that was asked for.
pub(crate) fn say(answer: &clap::Error, wrong_usage: u8) -> ExitCode {
    // As elsewhere: that nobody reads it changes nothing.
    let _nobody = answer.print();
    if answer.use_stderr() && wants_json(std::env::args_os().skip(1)) {
        let text = answer.to_string();
        // All but how the command is used.
        let lines = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
        let error = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let error = error.trim_start_matches("error: ").to_owned();
        let failure = failure::Failure::of(&anyhow::anyhow!(error));
        let _nobody = Output::new(OutputFormat::Json).json(&failure);
    }
    match answer.use_stderr() {
        false => ExitCode::SUCCESS,
        true => wrong_usage.into(),
    }
}

/// Whether arguments that were refused ask for JSON.
fn wants_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--output=json") => return true,
            Some("--output") if arguments.next().is_some_and(|form| form == "json") => return true,
            Some("--") => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_that_no_shell_replaced_is_home() {
        for (argument, expected) in [
            ("~/net", "/h/jan/net"),
            ("--dir=~/net", "/h/jan/net"),
            ("a~/net", "a~/net"),
            ("./~/net", "./~/net"),
            ("x=~/net", "x=~/net"),
            ("~", "~"),
        ] {
            let found = at_home(argument.into(), Some("/h/jan".into()));
            let expected = match argument.starts_with("--") {
                true => format!("--dir={expected}"),
                false => expected.to_owned(),
            };
            assert_eq!(found.to_str(), Some(expected.as_str()));
        }
    }

    #[test]
    fn refused_arguments_may_ask_for_json() {
        for (line, json) in [
            ("--output json query", true),
            ("query --output=json", true),
            ("--output text query json", false),
            ("--output yaml query", false),
            ("query -- --output=json", false),
            ("", false),
        ] {
            assert_eq!(wants_json(line.split_whitespace().map(OsString::from)), json, "{line}");
        }
    }
}
