// Writes texts and arrays of fixed dimensions; compiled by ROOT's interpreter.

#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleWriter.hxx>
#include <TFile.h>
#include <TString.h>
#include <TTree.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace rootfeed_test {

// A TTree `t` with each text as char*, std::string and TString, its number, and arrays made of it.
void write_texts(const char *path, const std::vector<std::string> &texts) {
  TFile file(path, "RECREATE");
  TTree tree("t", "");
  std::size_t longest = 1;
  for (const auto &text : texts) longest = std::max(longest, text.size() + 1);
  std::vector<char> letters(longest);
  std::string standard;
  TString own;
  int id, count;
  float image[2][3], line[3], counted[5][3];
  double cube[2][1][2];
  struct { int number; float square[2][2]; } record;
  tree.Branch("c", letters.data(), "c/C");
  tree.Branch("s", &standard);
  tree.Branch("ts", &own);
  tree.Branch("id", &id, "id/I");
  tree.Branch("image", image, "image[2][3]/F");
  tree.Branch("line", line, "line[3]/F");
  tree.Branch("cube", cube, "cube[2][1][2]/D");
  tree.Branch("packed", cube, "packed[2][1][2]/d");
  tree.Branch("record", &record, "number/I:square[2][2]/F");
  tree.Branch("count", &count, "count/I");
  tree.Branch("counted", counted, "counted[count][3]/F");
  tree.SetAutoFlush(50);
  for (std::size_t entry = 0; entry < texts.size(); ++entry) {
    id = entry;
    standard = texts[entry];
    own = texts[entry];
    std::copy(standard.c_str(), standard.c_str() + standard.size() + 1, letters.data());
    for (int i = 0; i < 6; ++i) image[i / 3][i % 3] = 6 * id + i;
    for (int i = 0; i < 3; ++i) line[i] = 3 * id + i;
    for (int i = 0; i < 4; ++i) cube[i / 2][0][i % 2] = 4 * id + i;
    for (int i = 0; i < 4; ++i) record.square[i / 2][i % 2] = 4 * id + i;
    for (int i = 0; i < 15; ++i) counted[i / 3][i % 3] = 15 * id + i;
    record.number = id;
    count = id % 6;
    tree.Fill();
  }
  tree.Write();
}

// An RNTuple `t` of the same.
void write_texts_ntuple(const char *path, const std::vector<std::string> &texts) {
  auto model = ROOT::RNTupleModel::Create();
  auto text = model->MakeField<std::string>("s");
  auto other = model->MakeField<std::string>("same");
  auto id = model->MakeField<int>("id");
  auto image = model->MakeField<std::array<std::array<float, 3>, 2>>("image");
  auto line = model->MakeField<std::array<float, 3>>("line");
  auto cube = model->MakeField<std::array<std::array<std::array<double, 2>, 1>, 2>>("cube");
  auto flags = model->MakeField<std::array<std::array<bool, 3>, 2>>("flags");
  auto counted = model->MakeField<std::vector<std::array<float, 3>>>("counted");
  auto writer = ROOT::RNTupleWriter::Recreate(std::move(model), "t", path);
  for (std::size_t entry = 0; entry < texts.size(); ++entry) {
    *id = entry;
    *text = texts[entry];
    *other = texts[entry % 7 == 0 ? 0 : entry];
    for (int i = 0; i < 6; ++i) (*image)[i / 3][i % 3] = 6 * *id + i;
    for (int i = 0; i < 6; ++i) (*flags)[i / 3][i % 3] = (*id + i) % 3 == 0;
    for (int i = 0; i < 3; ++i) (*line)[i] = 3 * *id + i;
    for (int i = 0; i < 4; ++i) (*cube)[i / 2][0][i % 2] = 4 * *id + i;
    counted->clear();
    for (int i = 0; i < *id % 6; ++i) counted->push_back({1.f * *id, 1.f * i, 2.f});
    writer->Fill();
    if (entry % 50 == 49) writer->CommitCluster();
  }
}

}  // namespace rootfeed_test
