//! A machine that has one allocation with one task, `web`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cos_http::local::{
    AllocUsage, ByteStream, ExecInput, ExecInputs, ExecOutput, ExecOutputs, ExecRequest, FileInfo,
    Frame, FrameStream, HostUsage, NodeFigures, StreamFile, StreamLogs, TaskUsage,
};
use cos_http::{LocalError, LocalNode};
use cos_model::{AllocId, NodeId};
use futures_util::StreamExt;
use futures_util::stream;

use super::{ALLOC, NODE, START};

pub(super) struct FakeNode;

fn unknown(alloc: AllocId) -> Result<(), LocalError> {
    if alloc == ALLOC { Ok(()) } else { Err(LocalError::UnknownAlloc(alloc)) }
}

fn pieces() -> FrameStream {
    let frame = |text: &'static str, offset| Frame {
        file: "alloc/logs/web.stdout.0".to_owned(),
        offset,
        data: text.into(),
        event: None,
    };
    stream::iter([Ok(frame("hello ", 6)), Ok(frame("world", 11))]).boxed()
}

#[async_trait]
impl LocalNode for FakeNode {
    fn node_id(&self) -> NodeId {
        NODE
    }

    fn has_alloc(&self, alloc: AllocId) -> bool {
        alloc == ALLOC
    }

    fn figures(&self) -> NodeFigures {
        NodeFigures { check_registrations: 3, ..NodeFigures::default() }
    }

    async fn list(&self, alloc: AllocId, path: &str) -> Result<Vec<FileInfo>, LocalError> {
        unknown(alloc)?;
        Ok(vec![FileInfo { name: format!("in {path}"), ..FileInfo::default() }])
    }

    async fn stat(&self, alloc: AllocId, path: &str) -> Result<FileInfo, LocalError> {
        unknown(alloc)?;
        let content_type = "text/html".to_owned();
        Ok(FileInfo { name: path.to_owned(), content_type, ..FileInfo::default() })
    }

    async fn read(
        &self,
        alloc: AllocId,
        _path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<ByteStream, LocalError> {
        unknown(alloc)?;
        let text = format!("from {offset} at most {limit:?}");
        Ok(stream::iter([Ok(text.into())]).boxed())
    }

    async fn stream(
        &self,
        alloc: AllocId,
        _request: StreamFile,
    ) -> Result<FrameStream, LocalError> {
        unknown(alloc)?;
        Ok(pieces())
    }

    async fn logs(&self, alloc: AllocId, request: StreamLogs) -> Result<FrameStream, LocalError> {
        unknown(alloc)?;
        if request.task == "web" {
            return Ok(pieces());
        }
        Err(LocalError::NotFound(format!("unknown task name {:?}", request.task)))
    }

    async fn exec(
        &self,
        alloc: AllocId,
        request: ExecRequest,
        inputs: ExecInputs,
    ) -> Result<ExecOutputs, LocalError> {
        unknown(alloc)?;
        if request.task != "web" {
            return Err(LocalError::NotFound(format!("unknown task name {:?}", request.task)));
        }
        let answers = inputs.map(|input| match input {
            ExecInput::Stdin(data) => Ok(ExecOutput::Stdout(data)),
            ExecInput::StdinClosed => Ok(ExecOutput::Exited(3)),
            ExecInput::Resize { .. } => Ok(ExecOutput::StderrClosed),
        });
        Ok(answers.boxed())
    }

    async fn restart(
        &self,
        alloc: AllocId,
        _task: Option<&str>,
        _all: bool,
    ) -> Result<(), LocalError> {
        unknown(alloc)
    }

    async fn signal(
        &self,
        alloc: AllocId,
        _task: Option<&str>,
        _signal: &str,
    ) -> Result<(), LocalError> {
        unknown(alloc)
    }

    async fn alloc_stats(
        &self,
        alloc: AllocId,
        _task: Option<&str>,
    ) -> Result<AllocUsage, LocalError> {
        unknown(alloc)?;
        let tasks = BTreeMap::from([("web".to_owned(), TaskUsage::default())]);
        Ok(AllocUsage { at: START, tasks })
    }

    async fn host_stats(&self) -> Result<HostUsage, LocalError> {
        Ok(HostUsage { uptime_seconds: 9, ..HostUsage::default() })
    }

    async fn collect(&self, _alloc: Option<AllocId>) -> Result<(), LocalError> {
        Ok(())
    }
}
