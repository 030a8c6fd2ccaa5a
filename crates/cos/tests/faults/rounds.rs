//! Kills all servers again and again at moments that are drawn, under load.

use std::time::Duration;

use crate::cluster::{Cluster, SERVERS};
use crate::judge::judge;
use crate::scenes::Run;
use crate::workload::Workload;

/// Does so many rounds. Stops at the first one that goes wrong, so that its files are as they were.
pub(crate) async fn kill_all(
    cluster: &mut Cluster,
    rounds: u32,
    seed: u64,
) -> anyhow::Result<bool> {
    cluster.make_whole().await?;
    let mut slowest = Duration::ZERO;
    let (mut operations, mut acknowledged) = (0, 0);
    for round in 1..=rounds {
        let workload =
            Workload::start(cluster, &format!("r{round}"), seed ^ u64::from(round)).await?;
        let mut run = Run { cluster: &mut *cluster, seed: seed.wrapping_add(u64::from(round)) };
        let before = Duration::from_millis(200 + run.draw(1300));
        run.load(before).await;
        kill_in_some_order(&mut run).await?;
        let recovered = cluster.until_a_write(&[0, 1, 2]).await?;
        cluster.make_whole().await?;
        let judgement = judge(&workload.finish().await);
        println!(
            "round {round:3}  operations {:5}  acknowledged {:5}  lost {}  recovered {:5} ms",
            judgement.operations,
            judgement.acknowledged,
            judgement.lost,
            recovered.as_millis()
        );
        if judgement.lost > 0 || !judgement.complaints.is_empty() {
            for complaint in &judgement.complaints {
                println!("  FAILED: {complaint}");
            }
            return Ok(false);
        }
        slowest = slowest.max(recovered);
        operations += judgement.operations;
        acknowledged += judgement.acknowledged;
    }
    let slowest = slowest.as_millis();
    println!(
        "{rounds} rounds: {operations} operations, {acknowledged} acknowledged, 0 lost, recovered \
         within {slowest} ms each time"
    );
    Ok(true)
}

/// Kills all servers within some milliseconds, in any order, and starts them in another.
async fn kill_in_some_order(run: &mut Run<'_>) -> anyhow::Result<()> {
    let first = usize::try_from(run.draw(SERVERS as u64))?;
    for number in 0..SERVERS {
        run.cluster.servers[(first + number) % SERVERS].kill();
        let pause = Duration::from_millis(run.draw(20));
        run.load(pause).await;
    }
    let first = usize::try_from(run.draw(SERVERS as u64))?;
    for number in 0..SERVERS {
        run.cluster.servers[(first + number) % SERVERS].start()?;
        let pause = Duration::from_millis(run.draw(100));
        run.load(pause).await;
    }
    Ok(())
}
