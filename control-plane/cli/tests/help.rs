//! The command line as users see it.

use clap::{Command, CommandFactory};

/// The help of every command.
fn help(command: &mut Command, path: &str, texts: &mut Vec<String>) {
    let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
    let text = command.clone().bin_name(&path).term_width(100).render_help();
    texts.push(format!("━━ {path}\n\n{text}"));
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        help(sub, &path, texts);
    }
}

#[test]
fn every_command_explains_itself() {
    let mut command = springtide::Cli::command();
    command.build();
    let mut texts = Vec::new();
    help(&mut command, "", &mut texts);
    insta::assert_snapshot!(texts.join("\n"));
}
