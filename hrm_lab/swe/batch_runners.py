"""Programs that run many candidates, as texts: JavaScript for node, Java with its own compiler, Go in one binary.

They read "NONCE CPU-SECONDS WALL-SECONDS" and numbers, one a line, on stdin, and print what `batch_worker.serve` reads.
Time-outs count CPU time: node's timer counts the wall clock, so that a candidate which it ends too early runs again
for as long as its share of the processor asks. A Java thread that cannot be stopped ends the machine, and the rest run
in a fresh one. Go's runtime takes no notice of a CPU timer's signal, so that its program looks at the clock itself.
Its tests want one type of the module testify, which Go does not bring: GO_FILES has what HumanEvalPack uses of it.
"""

NODE = r"""
const fs = require('fs'), vm = require('vm')
const [first, ...numbers] = fs.readFileSync(0, 'utf8').trim().split('\n')
const [nonce, cpu, wall] = first.split(' ')
const say = (...words) => fs.writeSync(1, [nonce, ...words].join(' ') + '\n')
const used = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1e6 }
function quiet() {
  const silent = {}
  for (const name of Object.keys(console)) silent[name] = () => undefined
  return silent
}
for (const number of numbers) {
  say(number)
  const code = fs.readFileSync(`c${number}.js`, 'utf8')
  let outcome = 'passed', message = '', spent = 0
  for (let timeout = 1000 * cpu; ; timeout *= Math.min(8, 1.2 * cpu / spent)) {
    const before = used()
    outcome = 'passed'
    try {
      const context = vm.createContext({ console: quiet(), require })
      new vm.Script(code, { filename: 'main.js' }).runInContext(context, { timeout: Math.ceil(timeout) })
    } catch (error) {
      const late = error !== null && typeof error === 'object' && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
      outcome = late ? 'cpu' : error instanceof SyntaxError ? 'error' : 'failed'
      message = String(error && error.message).slice(0, 200).replace(/\s+/g, ' ')
    }
    spent = used() - before
    if (outcome !== 'cpu' || spent >= 0.9 * cpu || timeout > 1000 * wall) break
  }
  say(number, outcome, spent.toFixed(4), message)
}
process.exit(0)
"""

JAVA = r"""
import java.io.*;
import java.lang.management.*;
import java.nio.file.*;
import java.util.*;
import javax.tools.*;

public class Batch {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        if (args[0].equals("compile")) compile(in.lines().toList()); else run(in);
    }

    static void compile(List<String> numbers) throws Exception {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null);
        List<String> names = new ArrayList<>(List.of("Batch.java"));
        for (String number : numbers) names.add("c" + number + "x/Main.java");
        while (true) {
            DiagnosticCollector<JavaFileObject> said = new DiagnosticCollector<>();
            List<String> options = List.of("-d", "out", "-nowarn", "-Xmaxerrs", "100000", "-proc:none",
                                           "-XDshould-stop.ifError=FLOW", "-Xlint:none", "-g:none");
            boolean done = compiler.getTask(null, files, said, options, null,
                                            files.getJavaFileObjectsFromStrings(names)).call();
            Set<String> bad = new HashSet<>();
            for (Diagnostic<? extends JavaFileObject> one : said.getDiagnostics()) {
                if (one.getKind() != Diagnostic.Kind.ERROR || one.getSource() == null) continue;
                Path path = Path.of(one.getSource().toUri());
                String folder = path.getParent().getFileName().toString();
                if (bad.add(folder + "/Main.java"))
                    System.out.println(folder + " " + one.getLineNumber() + " "
                                       + one.getMessage(Locale.ENGLISH).replaceAll("\\s+", " "));
            }
            if (done || bad.isEmpty()) return;
            names.removeAll(bad);
        }
    }

    static void run(BufferedReader in) throws Exception {
        String[] first = in.readLine().split(" ");
        String nonce = first[0];
        double cpu = Double.parseDouble(first[1]), wall = Double.parseDouble(first[2]);
        PrintStream out = System.out;
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        System.setErr(System.out);
        ThreadMXBean clock = ManagementFactory.getThreadMXBean();
        for (String number = in.readLine(); number != null; number = in.readLine()) {
            out.println(nonce + " " + number);
            out.flush();
            String name = "c" + number + "x.Main";
            Throwable[] thrown = new Throwable[1];
            Thread thread = new Thread(null, () -> {
                try {
                    var main = Class.forName(name).getMethod("main", String[].class);
                    main.setAccessible(true);
                    main.invoke(null, (Object) new String[0]);
                } catch (Throwable error) {
                    thrown[0] = error instanceof java.lang.reflect.InvocationTargetException
                        ? error.getCause() : error;
                }
            }, name, 8 << 20);
            long begun = System.nanoTime();
            double used = 0;
            thread.start();
            String end = null;
            while (end == null) {
                thread.join(20);
                if (!thread.isAlive()) break;
                used = Math.max(used, clock.getThreadCpuTime(thread.getId()) / 1e9);
                if (used > cpu) end = "cpu";
                else if (System.nanoTime() - begun > 1e9 * wall) end = "wall";
            }
            String message = thrown[0] == null ? "" : thrown[0].toString().replaceAll("\\s+", " ");
            if (end == null) end = thrown[0] == null ? "passed"
                : thrown[0] instanceof OutOfMemoryError ? "memory" : "failed";
            out.println(nonce + " " + number + " " + end + " " + used + " "
                        + message.substring(0, Math.min(200, message.length())));
            out.flush();
            if (thread.isAlive() && !stopped(thread)) break;
        }
        Runtime.getRuntime().halt(0);
    }

    static boolean stopped(Thread thread) throws Exception {  // Java 20 and later refuse
        try {
            Thread.class.getMethod("stop").invoke(thread);
        } catch (ReflectiveOperationException error) {
            return false;
        }
        thread.join(200);
        return !thread.isAlive();
    }
}
"""

GO_FILES = {
    "go.mod": "module batch\n\nrequire github.com/stretchr/testify v0.0.0\n\n"
              "replace github.com/stretchr/testify => ./testify\n",
    "testify/go.mod": "module github.com/stretchr/testify\n",
    "testify/assert/assert.go": r"""
package assert

import (
	"bytes"
	"reflect"
	"testing"
)

type Assertions struct{ t *testing.T }

func New(t *testing.T) *Assertions { return &Assertions{t} }

func (a *Assertions) Equal(expected, actual interface{}, _ ...interface{}) bool {
	one, first := expected.([]byte)
	other, second := actual.([]byte)
	same := first && second && one != nil && other != nil && bytes.Equal(one, other)
	if !same && !reflect.DeepEqual(expected, actual) {
		a.t.Errorf("expected %v, got %v", expected, actual)
		return false
	}
	return true
}
"""}
# the first lines of it, which import the candidates and list their tests, are made by batch_worker
GO_MAIN = r"""
func main() {
	var given [4]int // candidate, code of what passes, code of what takes too long, its milliseconds
	for n := range given {
		given[n], _ = strconv.Atoi(os.Args[n+1])
	}
	os.Args = os.Args[:1]
	debug.SetMaxStack(64 << 20)
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			var used syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_SELF, &used)
			if int(used.Utime.Nano()+used.Stime.Nano())/1e6 > given[3] {
				os.Exit(given[2])
			}
		}
	}()
	anything := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(anything, []testing.InternalTest{{"all", func(t *testing.T) {
		for _, one := range all[given[0]] {
			t.Run(one.Name, one.F)
		}
		if !t.Failed() {
			os.Exit(given[1])
		}
	}}}, nil, nil)
}
"""
