//! A session with a command in a container. The engine has no way to end such a command from
//! outside: if the caller goes, the engine closes the command's input and output.

use std::pin::Pin;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::ResizeExecOptions;
use cos_platform::{Fate, Tasks};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::driver::ExecRequest;
use crate::exec_session::{ExecInput, ExecOutput, ExecPeer, ExecSession};

/// The exit code told if the engine does not know one.
const NO_CODE: i32 = -1;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Starts a command in a container.
pub(super) async fn start(
    docker: &Docker,
    container: &str,
    request: &ExecRequest,
) -> Result<ExecSession, bollard::errors::Error> {
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(request.tty),
        cmd: Some(request.command.clone()),
        ..CreateExecOptions::default()
    };
    let id = docker.create_exec(container, options).await?.id;
    let options = StartExecOptions { tty: request.tty, ..StartExecOptions::default() };
    let (session, peer) = ExecSession::pair();
    match docker.start_exec(&id, Some(options)).await? {
        StartExecResults::Attached { output, input } => {
            let docker = docker.clone();
            // The task ends with its session; nobody waits for it.
            Tasks::new().spawn("exec in a container", Fate::Ends, async move {
                serve(&docker, &id, output, input, peer).await;
            });
        }
        // It was not asked to run detached.
        StartExecResults::Detached => {}
    }
    Ok(session)
}

async fn serve(docker: &Docker, id: &str, output: Output, input: Input, peer: ExecPeer) {
    let ExecPeer { input: orders, output: listener } = peer;
    let all = async {
        pump(output, &listener).await;
        match docker.inspect_exec(id).await {
            Ok(found) => {
                let code = found.exit_code.and_then(|code| i32::try_from(code).ok());
                ExecOutput::Exit(code.unwrap_or(NO_CODE))
            }
            Err(error) => ExecOutput::Failed(error.to_string()),
        }
    };
    tokio::select! {
        exit = all => drop(listener.send(exit).await),
        // The input has ended for good, so it can only be that the session was dropped.
        () = feed(docker, id, input, orders, &listener) => {}
    }
}

async fn pump(mut output: Output, listener: &mpsc::Sender<ExecOutput>) {
    while let Some(Ok(message)) = output.next().await {
        let message = match message {
            LogOutput::StdErr { message } => ExecOutput::Stderr(message),
            LogOutput::StdOut { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => ExecOutput::Stdout(message),
        };
        if listener.send(message).await.is_err() {
            return;
        }
    }
}

async fn feed(
    docker: &Docker,
    id: &str,
    input: Input,
    mut orders: mpsc::Receiver<ExecInput>,
    listener: &mpsc::Sender<ExecOutput>,
) {
    let mut input = Some(input);
    while let Some(order) = orders.recv().await {
        match order {
            ExecInput::Stdin(bytes) => {
                if let Some(pipe) = &mut input
                    && (pipe.write_all(&bytes).await.is_err() || pipe.flush().await.is_err())
                {
                    input = None;
                }
            }
            ExecInput::CloseStdin => {
                if let Some(mut pipe) = input.take() {
                    // A pipe that is closed already is as good.
                    drop(pipe.shutdown().await);
                }
            }
            ExecInput::Resize { width, height } => {
                let options = ResizeExecOptions { w: i32::from(width), h: i32::from(height) };
                // A command that has ended has no window.
                drop(docker.resize_exec(id, options).await);
            }
        }
    }
    listener.closed().await;
}
