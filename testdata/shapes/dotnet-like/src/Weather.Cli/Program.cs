using System;

namespace Weather.Cli
{
    internal static class Program
    {
        private static void Main(string[] words)
        {
            foreach (string word in words)
                Console.WriteLine("{0,3} {1}", word, Scale.Word(int.Parse(word)));
        }
    }
}
